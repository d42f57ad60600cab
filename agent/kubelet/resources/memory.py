"""Memory: under the Static policy, guaranteed pods have their memory and huge pages on chosen NUMA nodes.

A node gives either to containers that need it alone, or to those that need the same group of nodes, never both.

Source: Utilizing the NUMA-aware Memory Manager; kubelet's cm/memorymanager policy_static.go; KEP-1769.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from agent.kubelet import metrics
from agent.kubelet.pods import qos, spec
from agent.kubelet.resources.hints import Hint, Hints, mask_of, masks, nodes_of
from agent.kubelet.resources.memorystate import Block, MemoryStateFile, NodeState, Table
from agent.kubelet.resources.reservedmemory import HUGEPAGES, MEMORY, is_memory, reserved_memory
from agent.kubelet.resources.topology import Topology
from agent.kubelet.resources.topologymanager import AdmissionError
from agent.kubelet.settings import Settings
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.api.quantity import BINARY_SI, Quantity
from machinery.errors import SettingsError

NONE, STATIC = "None", "Static"

Asked = dict[str, int]
"""Bytes by kind of memory."""


def wanted(container: Object) -> Asked:
    """What a container asks for."""
    return {name: amount.value() for name, amount in podresources.of_container(container).items() if is_memory(name)}


def wanted_by_pod(pod: Object) -> Asked:
    """What a pod's containers ask for at a time, at most."""
    init: Asked = {}
    sidecars: Asked = {}
    for container in spec.init_containers(pod):
        for kind, size in wanted(container).items():
            if spec.is_sidecar(container):
                sidecars[kind] = sidecars.get(kind, 0) + size
            else:
                init[kind] = max(init.get(kind, 0), sidecars.get(kind, 0) + size)
    apps: Asked = {}
    for container in spec.containers(pod):
        for kind, size in wanted(container).items():
            apps[kind] = apps.get(kind, 0) + size
    return {kind: max(init.get(kind, 0), size + sidecars.get(kind, 0)) for kind, size in apps.items()}


def empty_nodes(machine: Topology, reserved: Mapping[int, Mapping[str, int]]) -> dict[int, NodeState]:
    """The machine's nodes when nobody has anything."""
    found = {}
    for number, node in machine.nodes.items():
        kept = reserved.get(number, {})
        tables = {}
        for size, total in node.hugepages.items():
            kind = f"{HUGEPAGES}{quantity.of(size, BINARY_SI)}"
            left = total - kept.get(kind, 0)
            tables[kind] = Table(total, kept.get(kind, 0), left, 0, left)
        left = node.memory_bytes - kept.get(MEMORY, 0) - sum(node.hugepages.values())
        tables[MEMORY] = Table(node.memory_bytes, kept.get(MEMORY, 0), left, 0, left)
        found[number] = NodeState(0, tables, [number])
    return found


class MemoryManager:
    """Who has memory of which nodes. One for the whole kubelet."""

    def __init__(self, root_dir: str, settings: Settings, machine: Topology, in_all: Mapping[str, Quantity]) -> None:
        """`in_all` is the memory kept from pods. Raises SettingsError for settings or state that can't be."""
        self.is_static = settings.memory_manager_policy == STATIC
        reserved = reserved_memory(settings, machine, in_all) if self.is_static else {}
        self._file = MemoryStateFile(root_dir, STATIC if self.is_static else NONE)
        self._state = self._file.load()
        # Of init containers of the pod that is being taken: bytes by nodes' mask and kind.
        self._reusable: tuple[str, dict[int, Asked]] = ("", {})
        if self.is_static:
            self._check_state(empty_nodes(machine, reserved))

    def _check_state(self, expected: dict[int, NodeState]) -> None:
        state = self._state
        if not state.nodes:
            if state.blocks:
                raise SettingsError("[memorymanager] machine state can not be empty when it has memory assignments")
            state.nodes = expected
            self._file.save(state)
            return
        for uid, containers in state.blocks.items():
            for name, blocks in containers.items():
                for block in blocks:
                    where = f"[memorymanager] (pod: {uid}, container: {name}) the memory assignment uses"
                    if not set(block.nodes) <= expected.keys():
                        raise SettingsError(f"{where} the NUMA that does not exist")
                    if any(block.kind not in expected[number].memory for number in block.nodes):
                        raise SettingsError(f"{where} memory resource that does not exist")
                    _give(expected, block.nodes, block.kind, block.size)
        if not _alike(state.nodes, expected):
            raise SettingsError("[memorymanager] the expected machine state is different from the real one")

    # -- asked from outside ------------------------------------------------------------------------------------------

    def mems(self, uid: str, container: str) -> str:
        """The nodes that a container's memory has to be on; empty where nobody cares."""
        blocks = self._state.blocks.get(uid, {}).get(container, ())
        return ",".join(str(number) for number in sorted({n for block in blocks for n in block.nodes}))

    def blocks(self, uid: str, container: str) -> list[Block]:
        """What a container has."""
        return list(self._state.blocks.get(uid, {}).get(container, ()))

    @property
    def allocatable(self) -> list[Block]:
        """What containers can have, node by node."""
        return [
            Block([number], kind, table.allocatable)
            for number, node in sorted(self._state.nodes.items())
            for kind, table in sorted(node.memory.items())
            if table.allocatable
        ]

    def exclusive_reason(self, pod: Object) -> str:
        """Why a pod can't be resized while it runs; empty if it can."""
        if self.is_static and meta.uid_of(pod) in self._state.blocks:
            return "Resize is infeasible for Guaranteed Pods alongside Memory Manager static policy"
        return ""

    # -- hints -------------------------------------------------------------------------------------------------------

    def _cares(self, pod: Object) -> bool:
        return self.is_static and qos.qos_class(pod) == qos.GUARANTEED and not spec.has_pod_resources(pod)

    def hints(self, pod: Object, container: Object) -> Hints:
        """Where the memory of a container could be."""
        if not self._cares(pod):
            return {}
        asked, has = wanted(container), self.blocks(meta.uid_of(pod), container["name"])
        return _again(has, asked) if has else self._hints(pod, asked)

    def pod_hints(self, pod: Object) -> Hints:
        """Where the memory of a whole pod could be."""
        asked = wanted_by_pod(pod) if self._cares(pod) else {}
        for container in [*spec.init_containers(pod), *spec.containers(pod)] if asked else ():
            has = self.blocks(meta.uid_of(pod), container["name"])
            if has:
                return _again(has, asked)
        return self._hints(pod, asked) if asked else {}

    def _hints(self, pod: Object, asked: Asked) -> dict[str, list[Hint]]:
        if not asked:
            return {}
        nodes = self._state.nodes
        narrowest, found = len(nodes), []
        for mask in masks(nodes):
            numbers = nodes_of(mask)
            if any(_sum(nodes, numbers, kind, "allocatable") < size for kind, size in asked.items()):
                continue
            narrowest = min(narrowest, len(numbers))
            if not _belong_together(nodes, numbers) or (len(numbers) == 1 and len(nodes[numbers[0]].cells) > 1):
                continue
            again = self._reusable_of(pod).get(mask, {})
            if all(_sum(nodes, numbers, kind, "free") + again.get(kind, 0) >= size for kind, size in asked.items()):
                found.append(mask)
        hints = [Hint(mask, mask.bit_count() == narrowest) for mask in found]
        return dict.fromkeys(asked, hints) if hints else {}

    # -- giving and taking back --------------------------------------------------------------------------------------

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        """Give a container memory of some nodes. Raises AdmissionError."""
        if not self._cares(pod):
            return
        uid, name = meta.uid_of(pod), container["name"]
        if spec.is_over(pod, container, self._state.blocks.get(uid, {})):
            return
        has, asked = self.blocks(uid, name), wanted(container)
        metrics.MEMORY_REQUESTS.inc()
        if not has and asked:
            with metrics.MEMORY_ERRORS.count_exceptions(AdmissionError):
                has = self._choose(pod, asked, hint)
            self._state.blocks.setdefault(uid, {})[name] = has
            self._shorten_init(pod, container, has)
            self._file.save(self._state)
        self._note_reusable(pod, container, has)

    def _choose(self, pod: Object, asked: Asked, hint: Hint) -> list[Block]:
        nodes = self._state.nodes
        best = hint
        if best.mask is None:
            hints = self._hints(pod, asked)
            if not hints:
                raise AdmissionError(
                    "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is "
                    "available"
                )
            best = _best(next(iter(hints.values())))
            if hint.preferred and not best.preferred:
                raise AdmissionError("[memorymanager] failed to find the default preferred hint")
        numbers = nodes_of(best.mask or 0)
        if any(_sum(nodes, numbers, kind, "free") < size for kind, size in asked.items()):
            before, best = best, self._wider(pod, asked, best.mask or 0)
            if before.preferred and not best.preferred:
                raise AdmissionError("[memorymanager] failed to find the extended preferred hint")
            numbers = nodes_of(best.mask or 0)
        if not _belong_together(nodes, numbers):
            raise AdmissionError("[memorymanager] preferred hint violates NUMA node allocation")
        again = self._reusable_of(pod).get(best.mask or 0, {})
        for kind, size in asked.items():
            _give(nodes, numbers, kind, max(0, size - again.get(kind, 0)))
        return [Block(numbers, kind, size) for kind, size in asked.items()]

    def _wider(self, pod: Object, asked: Asked, mask: int) -> Hint:
        hints = next(iter(self._hints(pod, asked).values()), [])
        wider = [hint for hint in hints if hint.mask is not None and hint.mask & mask == mask]
        if not wider:
            raise AdmissionError("[memorymanager] failed to find NUMA nodes to extend the current topology hint")
        return _best(wider)

    def _reusable_of(self, pod: Object) -> dict[int, Asked]:
        uid, found = self._reusable
        return found if uid == meta.uid_of(pod) else {}

    def _note_reusable(self, pod: Object, container: Object, blocks: Iterable[Block]) -> None:
        found = copy.deepcopy(self._reusable_of(pod))
        ends = not spec.is_app(pod, container) and not spec.is_sidecar(container)
        for block in blocks:
            kinds = found.setdefault(mask_of(block.nodes), {})
            left = kinds.get(block.kind, 0)
            kinds[block.kind] = max(left, block.size) if ends else max(0, left - block.size)
        self._reusable = (meta.uid_of(pod), found)

    def _shorten_init(self, pod: Object, container: Object, blocks: Iterable[Block]) -> None:
        """What a container takes over of init containers is theirs no more, so that all together are what was given."""
        own = self._state.blocks[meta.uid_of(pod)]
        for block in blocks:
            left = block.size
            for name in spec.ended_before(pod, container):
                for old in own.get(name, ()):
                    if old.kind == block.kind and set(old.nodes) == set(block.nodes):
                        taken = min(left, old.size)
                        old.size -= taken
                        left -= taken

    def started(self, pod: Object, container: Object) -> None:
        """A container starts: the init containers before it have ended, and what only they had is everybody's again."""
        uid = meta.uid_of(pod)
        for name in spec.ended_before(pod, container):
            if self.blocks(uid, name):
                self._release(uid, name)

    def _release(self, uid: str, name: str) -> None:
        own = self._state.blocks[uid]
        for block in own.pop(name):
            _take_back(self._state.nodes, block)
        if not own:
            del self._state.blocks[uid]
        self._file.save(self._state)

    def known(self) -> set[str]:
        """The uids of pods that have anything."""
        return set(self._state.blocks)

    def forget(self, uid: str) -> None:
        """The pod has ended: its memory is everybody's again."""
        for name in list(self._state.blocks.get(uid, ())):
            self._release(uid, name)


def _again(has: list[Block], asked: Asked) -> Hints:
    """The hints that lead to what a container has already."""
    if len(has) != len(asked) or any(asked.get(block.kind) != block.size for block in has):
        return {}
    return {block.kind: [Hint(mask_of(block.nodes), True)] for block in has}


def _best(hints: Iterable[Hint]) -> Hint:
    ordered = sorted(hints, key=lambda h: (not h.preferred, (h.mask or 0).bit_count(), h.mask or 0))
    return ordered[0]


def _sum(nodes: Mapping[int, NodeState], numbers: Iterable[int], kind: str, what: str) -> int:
    tables = [nodes[number].memory.get(kind) for number in numbers]
    return sum(getattr(table, what) for table in tables if table is not None)


def _belong_together(nodes: Mapping[int, NodeState], numbers: list[int]) -> bool:
    """Whether several nodes can be given from together: each is unused, or used with exactly these."""
    return len(numbers) == 1 or all(
        not nodes[number].assignments
        or (len(nodes[number].cells) > 1 and sorted(nodes[number].cells) == sorted(numbers))
        for number in numbers
    )


def _give(nodes: Mapping[int, NodeState], numbers: list[int], kind: str, size: int) -> None:
    for number in numbers:
        node = nodes[number]
        node.assignments += 1
        node.cells = list(numbers)
        table = node.memory.get(kind)
        if table is not None:
            given = min(size, max(0, table.free))
            table.free -= given
            table.reserved += given
            size -= given


def _take_back(nodes: Mapping[int, NodeState], block: Block) -> None:
    left = block.size
    for number in block.nodes:
        node = nodes[number]
        node.assignments -= 1
        if not node.assignments:
            node.cells = [number]
        table = node.memory.get(block.kind)
        if table is not None:
            given = min(left, table.reserved)
            table.free += given
            table.reserved -= given
            left -= given


def _alike(one: Mapping[int, NodeState], other: Mapping[int, NodeState]) -> bool:
    """Whether two states are of one machine with the same given away; within a group it doesn't matter from where."""
    if one.keys() != other.keys():
        return False
    for number, node in one.items():
        expected = other[number]
        if (node.assignments, sorted(node.cells)) != (expected.assignments, sorted(expected.cells)):
            return False
        if node.memory.keys() != expected.memory.keys():
            return False
        for kind, table in node.memory.items():
            same = expected.memory[kind]
            if (table.total, table.system_reserved, table.allocatable) != (
                same.total,
                same.system_reserved,
                same.allocatable,
            ):
                return False
            for what in ("free", "reserved"):
                if _sum(one, node.cells, kind, what) != _sum(other, node.cells, kind, what):
                    return False
    return True
