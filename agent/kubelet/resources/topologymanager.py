"""Whether a pod's processors, memory and devices can be close to each other, and the order in which they are given.

    pod (or container) ──► hints of all providers ──► policy: one hint, or no ──► each provider allocates with it

Source: Control Topology Management Policies on a Node; kubelet's cm/topologymanager; KEP-693, KEP-3545, KEP-4622.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from agent.kubelet import metrics
from agent.kubelet.pods import spec
from agent.kubelet.pods.status import Verdict
from agent.kubelet.resources.hints import ANY, NONE, Hint, Hints, Merger
from agent.kubelet.resources.topology import Topology
from agent.kubelet.settings import Settings
from machinery.api import meta
from machinery.api.meta import Object
from machinery.errors import NavarchError, SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

CONTAINER, POD = "container", "pod"
_CLOSEST, _MOST_NODES = "prefer-closest-numa-nodes", "max-allowable-numa-nodes"
_DEFAULT_MOST_NODES = 8

UNEXPECTED = "UnexpectedAdmissionError"


class AdmissionError(NavarchError):
    """Why a pod can't have what it asks for. Without a reason of its own it is an unexpected error."""

    def __init__(self, message: str, reason: str = UNEXPECTED) -> None:
        super().__init__(message)
        self.reason = reason

    def verdict(self) -> Verdict:
        """The rejection of the pod."""
        told = str(self)
        if self.reason == UNEXPECTED:
            told = f"Allocate failed due to {told}, which is unexpected"
        return Verdict(self.reason, told)


class Provider(Protocol):
    """Who gives containers something that has a place."""

    def hints(self, pod: Object, container: Object) -> Hints:
        """Where what a container asks for could be."""

    def pod_hints(self, pod: Object) -> Hints:
        """Where what a whole pod asks for could be."""

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        """Give it, there if possible. Raises AdmissionError."""

    def known(self) -> set[str]:
        """The uids of pods that have anything."""

    def forget(self, uid: str) -> None:
        """Take back all that a pod has."""


class TopologyManager:
    """Gives pods what they ask for when they are taken. One for the whole kubelet."""

    def __init__(self, settings: Settings, machine: Topology, providers: Sequence[Provider]) -> None:
        """Raises SettingsError for what this machine can't have."""
        self._providers = providers
        self._scope = settings.topology_manager_scope or CONTAINER
        self._merger = merger(settings, machine)

    def admit(self, pod: Object) -> Verdict | None:
        """Give a pod what it asks for; why it can't have it."""
        metrics.TOPOLOGY_REQUESTS.inc()
        began = time.perf_counter()
        try:
            self._admit(pod)
        except AdmissionError as error:
            metrics.TOPOLOGY_ERRORS.inc()
            self.forget(meta.uid_of(pod))
            return error.verdict()
        finally:
            metrics.TOPOLOGY_MILLISECONDS.observe(1000 * (time.perf_counter() - began))
        return None

    def _admit(self, pod: Object) -> None:
        hint = self._merged([p.pod_hints(pod) for p in self._providers]) if self._scope == POD else ANY
        for container in [*spec.init_containers(pod), *spec.containers(pod)]:
            if self._scope == CONTAINER:
                hint = self._merged([p.hints(pod, container) for p in self._providers])
            for provider in self._providers:
                provider.allocate(pod, container, hint)

    def _merged(self, hints: list[Hints]) -> Hint:
        if self._merger is None:
            return ANY
        hint, can_be_taken = self._merger.merge(hints)
        if not can_be_taken:
            raise AdmissionError("Resources cannot be allocated with Topology locality", "TopologyAffinityError")
        return hint

    def known(self) -> set[str]:
        """The uids of pods that have anything."""
        return {uid for provider in self._providers for uid in provider.known()}

    def forget(self, uid: str) -> None:
        """The pod has ended: others may have what it had."""
        for provider in self._providers:
            provider.forget(uid)


def merger(settings: Settings, machine: Topology) -> Merger | None:
    """The policy that the settings ask for; None for `none`. Raises SettingsError."""
    policy = settings.topology_manager_policy or NONE
    if policy == NONE:
        return None
    closest, most = False, _DEFAULT_MOST_NODES
    for name, value in sorted(settings.topology_manager_options.items()):
        if name == _CLOSEST:
            closest = boolean_option(name, value)
        elif name == _MOST_NODES:
            most = _most_nodes(value)
        else:
            raise SettingsError(f'unknown Topology Manager Policy option: "{name}"')
    if len(machine.nodes) > most:
        raise SettingsError(f"unsupported on machines with more than {most} NUMA Nodes")
    nodes = tuple(sorted(machine.nodes))
    distances = {number: machine.nodes[number].distances for number in nodes}
    if closest and any(len(found) <= nodes[-1] for found in distances.values()):
        raise SettingsError("cannot discover NUMA topology: error getting NUMA distances from sysfs")
    return Merger(policy, nodes, distances if closest else None)


def _most_nodes(value: str) -> int:
    try:
        most = int(value)
    except ValueError as error:
        told = f'strconv.Atoi: parsing "{value}": invalid syntax'
        raise SettingsError(f'unable to convert policy option to integer "{_MOST_NODES}": {told}') from error
    if most < _DEFAULT_MOST_NODES:
        raise SettingsError(f'the minimum value of "{_MOST_NODES}" should not be less than {_DEFAULT_MOST_NODES}')
    if most > _DEFAULT_MOST_NODES:
        log.warning("the value of max-allowable-numa-nodes is more than the default recommended value", value=most)
    return most


def boolean_option(name: str, value: str) -> bool:
    """A policy option that is on or off. Raises SettingsError."""
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise SettingsError(f'bad value for option "{name}": strconv.ParseBool: parsing "{value}": invalid syntax')
