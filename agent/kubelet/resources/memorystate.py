"""What the memory manager remembers over restarts: memory_manager_state, as upstream's kubelet writes and reads it.

Source: kubelet's cm/memorymanager/state (state.go, checkpoint.go, state_checkpoint.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.kubelet.resources.checkpoint import Checkpoint, corrupt, fnv32a, show_list, show_map, show_struct
from machinery.errors import SettingsError

FILE = "memory_manager_state"
# Under which names of the struct releases have written it; the first is the one that all of them can read.
_STRUCTS = ("MemoryManagerCheckpoint", "MemoryManagerCheckpointV1")


@dataclass
class Table:
    """Bytes of one kind of memory on one node; `free` and `reserved` together are `allocatable`."""

    total: int
    system_reserved: int
    allocatable: int
    reserved: int
    free: int


@dataclass
class NodeState:
    """A NUMA node: how often it was given from, its memory by kind, and the nodes that it is given together with."""

    assignments: int
    memory: dict[str, Table]
    cells: list[int]


@dataclass
class Block:
    """So many bytes of one kind that a container has on these nodes together."""

    nodes: list[int]
    kind: str
    size: int


@dataclass
class MemoryState:
    """The machine's nodes, and what containers have of them by pod uid and container name."""

    nodes: dict[int, NodeState] = field(default_factory=dict)
    blocks: dict[str, dict[str, list[Block]]] = field(default_factory=dict)


class MemoryStateFile:
    """The file below the kubelet's directory, for one policy."""

    def __init__(self, root_dir: str, policy: str) -> None:
        self._file = Checkpoint(Path(root_dir, FILE))
        self._policy = policy

    def load(self) -> MemoryState:
        """What was kept. Raises SettingsError for another policy's state, or one that can't be understood."""
        try:
            return self._load()
        except SettingsError as error:
            raise SettingsError(
                f"could not restore state from checkpoint: {error}, please drain this node and delete the memory "
                f'manager checkpoint file "{self._file.path}" before restarting Kubelet'
            ) from error

    def _load(self) -> MemoryState:
        document = self._file.read()
        if document is None:
            self.save(MemoryState())
            return MemoryState()
        try:
            state, policy = _parsed(document), str(document.get("policyName") or "")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"json: cannot unmarshal into state.MemoryManagerCheckpoint: {error}") from error
        checksum = document.get("checksum") or 0
        sums = [_checksum(struct, policy, state) for struct in _STRUCTS]
        if checksum and checksum not in sums:
            raise corrupt(sums[0], checksum)
        if policy != self._policy:
            raise SettingsError(
                f'[memorymanager] configured policy "{self._policy}" differs from state checkpoint policy "{policy}"'
            )
        return state

    def save(self, state: MemoryState) -> None:
        """Keep this."""
        document: dict[str, Any] = {
            "policyName": self._policy,
            "machineState": {str(number): _node_document(node) for number, node in sorted(state.nodes.items())},
        }
        if state.blocks:
            document["entries"] = {
                uid: {
                    name: [{"numaAffinity": b.nodes, "type": b.kind, "size": b.size} for b in blocks]
                    for name, blocks in containers.items()
                }
                for uid, containers in state.blocks.items()
            }
        self._file.write({**document, "checksum": _checksum(_STRUCTS[0], self._policy, state)})


def _node_document(node: NodeState) -> dict[str, Any]:
    return {
        "numberOfAssignments": node.assignments,
        "memoryMap": {
            kind: {
                "total": table.total,
                "systemReserved": table.system_reserved,
                "allocatable": table.allocatable,
                "reserved": table.reserved,
                "free": table.free,
            }
            for kind, table in sorted(node.memory.items())
        },
        "cells": node.cells,
    }


def _parsed(document: Mapping[str, Any]) -> MemoryState:
    nodes = {
        int(number): NodeState(
            int(node["numberOfAssignments"]),
            {
                kind: Table(t["total"], t["systemReserved"], t["allocatable"], t["reserved"], t["free"])
                for kind, t in node["memoryMap"].items()
            },
            list(node["cells"] or ()),
        )
        for number, node in (document.get("machineState") or {}).items()
    }
    blocks = {
        uid: {
            name: [Block(list(b["numaAffinity"]), b["type"], int(b["size"])) for b in found]
            for name, found in containers.items()
        }
        for uid, containers in (document.get("entries") or {}).items()
    }
    return MemoryState(nodes, blocks)


def _checksum(struct: str, policy: str, state: MemoryState) -> int:
    nodes = show_map({number: "<*>" + _show_node(node) for number, node in state.nodes.items()})
    entries = show_map(
        {
            uid: show_map({name: show_list(_show_block(b) for b in blocks) for name, blocks in containers.items()})
            for uid, containers in state.blocks.items()
        }
    )
    shown = show_struct(
        [
            ("PolicyName", "string", policy),
            ("MachineState", "state.NUMANodeMap", nodes),
            ("Entries", "state.ContainerMemoryAssignments", entries),
            ("Checksum", "checksum.Checksum", 0),
        ]
    )
    return fnv32a(f"(*state.{struct}){shown}")


def _show_node(node: NodeState) -> str:
    tables = show_map({kind: "<*>" + _show_table(table) for kind, table in node.memory.items()})
    return show_struct(
        [
            ("NumberOfAssignments", "int", node.assignments),
            ("MemoryMap", "map[v1.ResourceName]*state.MemoryTable", tables),
            ("Cells", "[]int", show_list(node.cells)),
        ]
    )


def _show_table(table: Table) -> str:
    return show_struct(
        [
            ("TotalMemSize", "uint64", table.total),
            ("SystemReserved", "uint64", table.system_reserved),
            ("Allocatable", "uint64", table.allocatable),
            ("Reserved", "uint64", table.reserved),
            ("Free", "uint64", table.free),
        ]
    )


def _show_block(block: Block) -> str:
    return show_struct(
        [
            ("NUMAAffinity", "[]int", show_list(block.nodes)),
            ("Type", "v1.ResourceName", block.kind),
            ("Size", "uint64", block.size),
        ]
    )
