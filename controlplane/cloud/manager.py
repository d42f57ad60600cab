"""The cloud controller manager: its controllers, and how they run together.

Source: k8s.io/cloud-provider/app.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from controlplane.cloud import lifecycle, nodes, routes, services
from controlplane.cloud.contract import Provider
from controlplane.cloud.environment import Build, Environment
from controlplane.cloud.options import PROGRAM
from controlplane.cloud.providers import PROVIDERS
from machinery import component
from machinery.api.catalogue import SERVICES
from machinery.cache.informer import Informers
from machinery.client.accounts import ClientPool
from machinery.clock import Clock, SystemClock
from machinery.controller import Controller
from machinery.errors import SettingsError
from machinery.log import get_logger
from machinery.selection import Names
from machinery.serving import HealthServer

log = get_logger(__name__)

CONTROLLERS: dict[str, Build] = {
    "cloud-node-controller": nodes.build,
    "cloud-node-lifecycle-controller": lifecycle.build,
    "service-lb-controller": services.build,
    "node-route-controller": routes.build,
}
ALIASES = {
    "cloud-node": "cloud-node-controller",
    "cloud-node-lifecycle": "cloud-node-lifecycle-controller",
    "service": "service-lb-controller",
    "route": "node-route-controller",
}


@dataclass(frozen=True)
class Manager:
    """The controllers, built and not yet running."""

    environment: Environment
    by_name: dict[str, list[Controller]]

    async def run(self, server: HealthServer | None = None) -> None:
        """Fill the caches, then run every controller until cancelled; `server` then tells of each by name."""
        env = self.environment
        async with env.informers, asyncio.TaskGroup() as group:
            await env.informers.synced()
            log.info("caches are filled", controllers=len(self.by_name))
            for recorder in env.recorders.values():
                group.create_task(recorder.run())
            for name, made in self.by_name.items():
                for controller in made:
                    group.create_task(controller.run(), name=controller.name)
                    if server is not None:
                        server.add_check(name, controller.check)


def assemble(flags: dict[str, Any], clients: ClientPool, clock: Clock | None = None) -> Manager:
    """Build the controllers that the flags choose. Raises SettingsError for what can't work."""
    provider: Provider | None = PROVIDERS.get(flags["cloud-provider"])
    if provider is None:
        known = ", ".join(sorted(PROVIDERS))
        raise SettingsError(f'--cloud-provider: unknown cloud provider "{flags["cloud-provider"]}", known: {known}')
    chosen = Names(frozenset(CONTROLLERS), ALIASES).choose(flags["controllers"])
    informers = Informers(clients.watching)
    environment = Environment(
        flags=flags,
        cloud=provider(flags["cloud-config"], informers.of(SERVICES).list),
        informers=informers,
        clock=clock or SystemClock(),
        client_for=clients.acting_as,
    )
    made = {name: build(environment) for name, build in CONTROLLERS.items() if name in chosen}
    return Manager(environment, {name: controllers for name, controllers in made.items() if controllers})


async def serve(flags: dict[str, Any]) -> None:
    """Serve health and metrics, wait for leadership, then control. Raises SettingsError, LeadershipLost."""
    clock, shown = SystemClock(), {name: str(value) for name, value in flags.items()}
    config = component.client_config(flags)
    configz = {"cloudcontrollermanager.config.k8s.io": shown}
    own_accounts = flags["use-service-account-credentials"]
    async with (
        component.guarded_server(flags, PROGRAM, configz) as server,
        ClientPool(config, clock, program=PROGRAM, own_accounts=own_accounts) as clients,
    ):
        manager = assemble(flags, clients, clock)
        if not flags["leader-elect"]:
            await manager.run(server)
            return
        election = component.leader_election(clients.lease, flags, PROGRAM)
        server.add_check("leaderElection", election.check)
        await clients.lead(election, lambda: manager.run(server))
