"""Options of the static CPU policy, and which of them go together.

Source: kubelet's cm/cpumanager policy_options.go (1.36).
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.kubelet.resources.hints import SINGLE
from agent.kubelet.resources.topology import Topology
from agent.kubelet.resources.topologymanager import boolean_option
from agent.kubelet.settings import Settings
from machinery.errors import SettingsError

FULL, ACROSS_NUMA, BY_SOCKET = "full-pcpus-only", "distribute-cpus-across-numa", "align-by-socket"
ACROSS_CORES, STRICT, BY_CACHE = (
    "distribute-cpus-across-cores",
    "strict-cpu-reservation",
    "prefer-align-cpus-by-uncorecache",
)
_ALPHA = (BY_SOCKET, ACROSS_CORES)
_ALL = (FULL, ACROSS_NUMA, BY_SOCKET, ACROSS_CORES, STRICT, BY_CACHE)
_APART = ((FULL, ACROSS_CORES), (ACROSS_NUMA, ACROSS_CORES), (BY_CACHE, ACROSS_CORES), (BY_CACHE, ACROSS_NUMA))


@dataclass(frozen=True, slots=True)
class CpuOptions:
    """Which options are on."""

    chosen: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self.chosen


def cpu_options(settings: Settings, machine: Topology) -> CpuOptions:
    """The options of the settings. Raises SettingsError for what does not exist, or not go together, or not here."""
    chosen = set()
    for name, value in sorted(settings.cpu_manager_options.items()):
        if name not in _ALL:
            raise SettingsError(f'unknown CPU Manager Policy option: "{name}"')
        if name in _ALPHA and not settings.gate("CPUManagerPolicyAlphaOptions", default=False):
            raise SettingsError(f'CPU Manager Policy Alpha-level Options not enabled, but option "{name}" provided')
        if boolean_option(name, value):
            chosen.add(name)
    for one, other in _APART:
        if {one, other} <= chosen:
            raise SettingsError(f"static policy options {one} and {other} can not be used at the same time")
    if BY_SOCKET in chosen:
        if settings.topology_manager_policy == SINGLE:
            raise SettingsError(
                f"Topolgy manager {SINGLE} policy is incompatible with CPUManager {BY_SOCKET} policy option"
            )
        if machine.sockets > len(machine.cpu_nodes):
            raise SettingsError(
                "Align by socket is not compatible with hardware where number of sockets are more than number of NUMA"
            )
    return CpuOptions(frozenset(chosen))
