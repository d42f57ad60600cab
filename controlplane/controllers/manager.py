"""The controller manager: which controllers there are, and how they run together.

All of them share one set of informers; the garbage collector is built last, as it watches what nobody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.controllers import (
    admissionpolicies,
    bootstraptokens,
    clusterroles,
    devicetaints,
    names,
    nodeipam,
    nodettl,
    podgc,
    quota,
    replicas,
    resourceclaims,
    rootca,
    serviceaccounts,
    servicecidrs,
    tokens,
    ttlafterfinished,
)
from controlplane.controllers import namespaces as ending
from controlplane.controllers.autoscaling import controller as autoscaling
from controlplane.controllers.certificates import controller as certificates
from controlplane.controllers.clients import PROGRAM, ManagerClients
from controlplane.controllers.cronjob import controller as cronjob
from controlplane.controllers.daemonset import controller as daemonset
from controlplane.controllers.deployment import controller as deployment
from controlplane.controllers.disruption import controller as disruption
from controlplane.controllers.endpoints import controller as slices
from controlplane.controllers.endpoints import legacy as endpoints
from controlplane.controllers.endpoints import mirror
from controlplane.controllers.environment import Build, Environment
from controlplane.controllers.garbage import controller as garbage
from controlplane.controllers.job import controller as job
from controlplane.controllers.nodelifecycle import controller as nodelifecycle
from controlplane.controllers.nodelifecycle import eviction
from controlplane.controllers.options import Options
from controlplane.controllers.statefulset import controller as statefulset
from controlplane.controllers.volumes import attachdetach, binder, ephemeral, expander, protection
from machinery import collector, component, metrics
from machinery.cache.informer import Informers
from machinery.clock import Clock, SystemClock
from machinery.controller import Controller
from machinery.log import get_logger
from machinery.serving import Check, HealthServer

log = get_logger(__name__)

CONTROLLERS: dict[str, Build] = {
    "serviceaccount-controller": serviceaccounts.build,
    "root-ca-certificate-publisher-controller": rootca.build,
    "namespace-controller": ending.build,
    "node-ipam-controller": nodeipam.build,
    "node-lifecycle-controller": nodelifecycle.build,
    "taint-eviction-controller": eviction.build,
    "device-taint-eviction-controller": devicetaints.build,
    "resourceclaim-controller": resourceclaims.build,
    "deployment-controller": deployment.build,
    "replicaset-controller": replicas.build_replicasets,
    "replicationcontroller-controller": replicas.build_replicationcontrollers,
    "endpointslice-controller": slices.build,
    "endpoints-controller": endpoints.build,
    "statefulset-controller": statefulset.build,
    "daemonset-controller": daemonset.build,
    "job-controller": job.build,
    "cronjob-controller": cronjob.build,
    "pod-garbage-collector-controller": podgc.build,
    "persistentvolume-binder-controller": binder.build,
    "persistentvolume-attach-detach-controller": attachdetach.build,
    "persistentvolume-expander-controller": expander.build,
    "persistentvolumeclaim-protection-controller": protection.build_claims,
    "persistentvolume-protection-controller": protection.build_volumes,
    "volumeattributesclass-protection-controller": protection.build_attributes,
    "ephemeral-volume-controller": ephemeral.build,
    "horizontal-pod-autoscaler-controller": autoscaling.build,
    "disruption-controller": disruption.build,
    "resourcequota-controller": quota.build,
    "serviceaccount-token-controller": tokens.build,
    "legacy-serviceaccount-token-cleaner-controller": tokens.build_cleaner,
    "endpointslice-mirroring-controller": mirror.build,
    "validatingadmissionpolicy-status-controller": admissionpolicies.build,
    "service-cidr-controller": servicecidrs.build,
    "clusterrole-aggregation-controller": clusterroles.build,
    "certificatesigningrequest-approving-controller": certificates.build_approver,
    "certificatesigningrequest-signing-controller": certificates.build_signers,
    "certificatesigningrequest-cleaner-controller": certificates.build_cleaner,
    "bootstrap-signer-controller": bootstraptokens.build_signer,
    "token-cleaner-controller": bootstraptokens.build_cleaner,
    "ttl-controller": nodettl.build,
    "ttl-after-finished-controller": ttlafterfinished.build,
    "garbage-collector-controller": garbage.build,
}
"""By upstream's names, in the order in which they are built."""


@dataclass(frozen=True)
class Manager:
    """The controllers, built and not yet running."""

    environment: Environment
    by_name: dict[str, list[Controller]]
    """By the names that --controllers has."""

    @property
    def controllers(self) -> list[Controller]:
        """All of them."""
        return [controller for made in self.by_name.values() for controller in made]

    async def run(self, server: HealthServer | None = None, filled: Callable[[], None] | None = None) -> None:
        """Fill the caches, call `filled`, then run every controller until cancelled; `server` tells of each by name."""
        env = self.environment
        async with env.informers, env.metadata_informers, asyncio.TaskGroup() as group:
            await env.informers.synced()
            if filled is not None:
                filled()
            log.info("caches are filled", controllers=len(self.controllers))
            for recorder in env.recorders.values():
                group.create_task(recorder.run())
            for controller in self.controllers:
                group.create_task(controller.run(), name=controller.name)
            for name, made in self.by_name.items():
                metrics.RUNNING_CONTROLLERS.labels(name, PROGRAM).set(1)
                if server is not None:
                    server.add_check(name, _all_work(made))


def assemble(options: Options, clients: ManagerClients, clock: Clock | None = None) -> Manager:
    """Build the controllers that the options choose. Raises SettingsError for what can't work."""
    chosen = names.choose(options["controllers"], CONTROLLERS)
    environment = Environment(
        options=options,
        informers=Informers(clients.watching, newest_first=True),
        metadata_informers=Informers(clients.metadata),
        clock=clock or SystemClock(),
        client_for=clients.acting_as,
    )
    made = {name: build(environment) for name, build in CONTROLLERS.items() if name in chosen}
    return Manager(environment, {name: controllers for name, controllers in made.items() if controllers})


def _all_work(controllers: list[Controller]) -> Check:
    async def check() -> None:
        for controller in controllers:
            await controller.check()

    return check


async def serve(options: Options) -> None:
    """Serve health and metrics, wait for leadership, then control. Raises SettingsError, LeadershipLost."""
    flags, clock = options.flags, SystemClock()
    config = component.client_config(flags)
    own_accounts = flags["use-service-account-credentials"]
    async with (
        component.guarded_server(flags, PROGRAM, options.shown) as server,
        ManagerClients(config, clock, own_accounts=own_accounts) as clients,
    ):
        manager = assemble(options, clients, clock)

        if not flags["leader-elect"]:
            await manager.run(server, collector.settled_soon)
            return
        election = component.leader_election(clients.lease, flags, PROGRAM)
        server.add_check("leaderElection", election.check)
        await clients.lead(election, lambda: manager.run(server, collector.settled_soon))
