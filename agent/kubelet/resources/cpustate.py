"""What the CPU manager remembers over restarts: cpu_manager_state, as upstream's kubelet writes and reads it.

Source: kubelet's cm/cpumanager/state (state_checkpoint.go, checkpoint.go).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.kubelet.resources.checkpoint import Checkpoint, corrupt, fnv32a, show_map, show_struct
from agent.kubelet.resources.cpuset import CpuSet, parse_set, show_set
from machinery.errors import SettingsError

FILE = "cpu_manager_state"
# Under which names of the struct releases have written it; the first is the one that all of them can read.
_STRUCTS = ("CPUManagerCheckpoint", "CPUManagerCheckpointV2")

Given = dict[str, dict[str, CpuSet]]
"""The CPUs of containers, by pod uid and container name."""


@dataclass
class CpuState:
    """CPUs that all share (empty: not decided yet), and those that containers have for themselves."""

    shared: CpuSet = frozenset()
    given: Given = field(default_factory=dict)


class CpuStateFile:
    """The file below the kubelet's directory, for one policy."""

    def __init__(self, root_dir: str, policy: str) -> None:
        self._file = Checkpoint(Path(root_dir, FILE))
        self._policy = policy

    def load(self) -> CpuState:
        """What was kept. Raises SettingsError for another policy's state, or one that can't be understood."""
        try:
            return self._load()
        except SettingsError as error:
            raise SettingsError(
                f"could not restore state from checkpoint: {error}, please drain this node and delete the CPU manager "
                f'checkpoint file "{self._file.path}" before restarting Kubelet'
            ) from error

    def _load(self) -> CpuState:
        document = self._file.read()
        if document is None:
            self.save(CpuState())
            return CpuState()
        policy, default, entries = _parts(document)
        checksum = document.get("checksum") or 0
        sums = [_checksum(struct, policy, default, entries) for struct in _STRUCTS]
        if checksum and checksum not in sums:
            raise corrupt(sums[0], checksum)
        if policy != self._policy:
            raise SettingsError(f'configured policy "{self._policy}" differs from state checkpoint policy "{policy}"')
        try:
            shared = parse_set(default)
        except ValueError as error:
            raise SettingsError(f'could not parse default cpu set "{default}": {error}') from error
        return CpuState(shared, {uid: _parsed(uid, containers) for uid, containers in entries.items()})

    def save(self, state: CpuState) -> None:
        """Keep this."""
        default = show_set(state.shared)
        entries = {u: {name: show_set(cpus) for name, cpus in c.items()} for u, c in state.given.items()}
        document: dict[str, Any] = {"policyName": self._policy, "defaultCpuSet": default}
        if entries:
            document["entries"] = entries
        self._file.write({**document, "checksum": _checksum(_STRUCTS[0], self._policy, default, entries)})


def _parts(document: Any) -> tuple[str, str, dict[str, dict[str, str]]]:
    if not isinstance(document, dict):
        raise SettingsError("json: cannot unmarshal into Go value of type state.CPUManagerCheckpoint")
    entries = document.get("entries") or {}
    if not isinstance(entries, dict) or not all(isinstance(containers, dict) for containers in entries.values()):
        raise SettingsError("json: cannot unmarshal entries into Go value of type map[string]map[string]string")
    return str(document.get("policyName") or ""), str(document.get("defaultCpuSet") or ""), entries


def _parsed(uid: str, containers: dict[str, str]) -> dict[str, CpuSet]:
    found = {}
    for name, text in containers.items():
        try:
            found[name] = parse_set(text)
        except ValueError as error:
            raise SettingsError(
                f'could not parse cpuset "{text}" for container "{name}" in pod "{uid}": {error}'
            ) from error
    return found


def _checksum(struct: str, policy: str, default: str, entries: dict[str, dict[str, str]]) -> int:
    shown = show_struct(
        [
            ("PolicyName", "string", policy),
            ("DefaultCPUSet", "string", default),
            ("Entries", "map[string]map[string]string", show_map({u: show_map(c) for u, c in entries.items()})),
            ("Checksum", "checksum.Checksum", 0),
        ]
    )
    return fnv32a(f"(*state.{struct}){shown}")
