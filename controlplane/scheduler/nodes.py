"""All nodes, and what is on them, as columns: the state that filters and scores look at.

A node has a row for as long as it exists; a change of a node or a pod touches one row, and is noted in a log so that
answers worked out before need be worked out again for those rows only. Arrays are `capacity` long; rows without a node
are False in `exists`. Only the scheduling loop changes the table, so what a plugin sees holds still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from controlplane.scheduler import resources
from controlplane.scheduler.columns import LabelColumns, Mask, TaintColumns
from controlplane.scheduler.images import Images
from controlplane.scheduler.pod import Disk, Pod, Shapes
from controlplane.scheduler.resources import ResourceNames
from controlplane.scheduler.terms import OwnedTerms, TermCounts
from machinery.api.meta import Object, name_of

_FIRST_CAPACITY = 64
_REMEMBERED_CHANGES = 4096


class ChangeLog:
    """Which rows have changed since a position; positions grow with every change."""

    def __init__(self) -> None:
        self.position = 0
        self._rows: list[int] = []  # rows changed, the last at `position`

    def add(self, row: int) -> None:
        """A row has changed."""
        self.position += 1
        self._rows.append(row)
        if len(self._rows) > 2 * _REMEMBERED_CHANGES:
            del self._rows[:_REMEMBERED_CHANGES]

    def forget(self) -> None:
        """Everything may have changed."""
        self.position += 1
        self._rows.clear()

    def since(self, position: int) -> list[int] | None:
        """Rows that have changed after that position; None if it is not known any more."""
        count = self.position - position
        return None if count > len(self._rows) else self._rows[len(self._rows) - count :] if count else []


class NodeTable:
    """Rows of nodes.

    allocatable, requested: int64[resources, capacity], in the units of `resources`
    scored:                 int64[2, capacity], cpu and memory requested as scoring counts them
    exists, unschedulable:  bool[capacity]
    """

    def __init__(self) -> None:
        capacity = _FIRST_CAPACITY
        self.names = ResourceNames()
        self.shapes = Shapes(self.names)
        self.allocatable = np.zeros((len(self.names), capacity), np.int64)
        self.requested = np.zeros((len(self.names), capacity), np.int64)
        self.scored = np.zeros((2, capacity), np.int64)
        self.exists: Mask = np.zeros(capacity, np.bool_)
        self.unschedulable: Mask = np.zeros(capacity, np.bool_)
        self.labels = LabelColumns(capacity)
        self.taints = TaintColumns(capacity)
        self.terms = TermCounts(capacity)
        self.images = Images(capacity)
        self.anti_affinity = OwnedTerms(capacity)  # required anti-affinity of pods on the nodes
        self.affinity = OwnedTerms(capacity)  # their required affinity
        self.preferred = OwnedTerms(capacity)  # their preferred terms, by weight
        self.log = ChangeLog()
        self._rows: dict[str, int] = {}
        self._nodes: list[Object | None] = [None] * capacity
        self._free: list[int] = list(range(capacity - 1, -1, -1))
        self._pods: dict[str, tuple[Pod, int]] = {}
        self._on: list[dict[str, Pod]] = [{} for _ in range(capacity)]
        self._homeless: dict[str, dict[str, Pod]] = {}  # node name → pods seen before their node
        self._homes: dict[str, str] = {}  # the node names of those pods
        self._ports: dict[tuple[str, int], dict[int, dict[str, int]]] = {}  # (protocol, port) → row → ip → count
        self.declared: dict[str, set[int]] = {}  # feature → rows whose node has declared it
        self._claims: dict[str, dict[int, int]] = {}  # claim → row → pods
        self._disks: dict[Disk, dict[int, list[bool]]] = {}  # disk → row → for reading only, of each pod

    @property
    def _owned(self) -> tuple[OwnedTerms, ...]:
        return self.anti_affinity, self.affinity, self.preferred

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace has these labels, or is gone."""
        self.terms.set_namespace(name, labels)
        for part in self._owned:
            part.forget_matches()
        self.log.forget()

    # -- nodes -------------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """How long the arrays are."""
        return len(self.exists)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, name: str) -> int | None:
        """The row of a node."""
        return self._rows.get(name)

    def node(self, row: int) -> Object:
        """The node of a row that has one."""
        node = self._nodes[row]
        if node is None:
            raise KeyError(row)
        return node

    def name(self, row: int) -> str:
        """The name of a row's node."""
        return name_of(self.node(row))

    def set_node(self, node: Object) -> None:
        """A node is new, or has changed."""
        name = name_of(node)
        row = self._rows.get(name)
        if row is None:
            row = self._new_row(name)
        self._nodes[row] = node
        amounts = resources.allocatable(node, self.names)
        self._fit_resources()
        self.allocatable[:, row] = 0
        for column, number in amounts.items():
            self.allocatable[column, row] = number
        self.exists[row] = True
        self.unschedulable[row] = bool(node["spec"].get("unschedulable"))
        self.labels.set(row, node)
        self.taints.set(row, node["spec"].get("taints") or ())
        self.images.set(row, node)
        self._declare(row, (node.get("status") or {}).get("declaredFeatures") or ())
        self.log.add(row)
        for pod in self._homeless.pop(name, {}).values():
            del self._homes[pod.key]
            self.add(pod, row)

    def remove_node(self, name: str) -> None:
        """A node is gone. Its pods are remembered, should it come back before they go."""
        row = self._rows.pop(name, None)
        if row is None:
            return
        for pod in list(self._on[row].values()):
            self.remove(pod.key)
            self._keep(pod, name)
        self._nodes[row] = None
        self.exists[row] = False
        self.allocatable[:, row] = 0
        self.labels.set(row, None)
        self.taints.set(row, ())
        self.images.set(row, None)
        self._declare(row, ())
        self._free.append(row)
        self.log.add(row)

    def _declare(self, row: int, features: Iterable[str]) -> None:
        for rows in self.declared.values():
            rows.discard(row)
        for feature in features:
            self.declared.setdefault(feature, set()).add(row)

    # -- pods --------------------------------------------------------------------------------------------------------

    def place(self, pod: Pod, node_name: str) -> None:
        """The pod is on that node, or will be (assumed); whatever was known of it before is replaced."""
        self.forget(pod.key)
        row = self._rows.get(node_name)
        if row is None:
            self._keep(pod, node_name)
        else:
            self.add(pod, row)

    def replace(self, pod: Pod) -> None:
        """The object of a pod that stays where it is, and of its shape, has changed otherwise."""
        row = self._pods[pod.key][1]
        self._pods[pod.key] = (pod, row)
        self._on[row][pod.key] = pod

    def forget(self, key: str) -> None:
        """The pod is nowhere."""
        if key in self._pods:
            self.remove(key)
        elif (name := self._homes.pop(key, None)) is not None:
            pods = self._homeless[name]
            del pods[key]
            if not pods:
                del self._homeless[name]

    def _keep(self, pod: Pod, node_name: str) -> None:
        self._homeless.setdefault(node_name, {})[pod.key] = pod
        self._homes[pod.key] = node_name

    @property
    def pod_count(self) -> int:
        """How many pods are on nodes."""
        return len(self._pods)

    def placed(self, key: str) -> tuple[Pod, int] | None:
        """The pod and its row, if it is on a node of the table."""
        return self._pods.get(key)

    def pods_on(self, row: int) -> list[Pod]:
        """The pods of a row."""
        return list(self._on[row].values())

    def add(self, pod: Pod, row: int) -> None:
        """Count a pod on a row."""
        self._fit_resources()
        self._count(pod, row, 1)
        self._pods[pod.key] = (pod, row)
        self._on[row][pod.key] = pod

    def remove(self, key: str) -> None:
        """Count a pod no longer."""
        pod, row = self._pods.pop(key)
        del self._on[row][key]
        self._count(pod, row, -1)

    @contextmanager
    def without(self, keys: Sequence[str]) -> Iterator[None]:
        """The table as if these pods were gone, for a moment."""
        taken = [self._pods[key] for key in keys]
        for pod, _ in taken:
            self.remove(pod.key)
        try:
            yield
        finally:
            for pod, row in taken:
                self.add(pod, row)

    @contextmanager
    def with_pods(self, pods: Sequence[tuple[Pod, int]]) -> Iterator[None]:
        """The table as if these pods were on these rows already, for a moment."""
        for pod, row in pods:
            self.add(pod, row)
        try:
            yield
        finally:
            for pod, _ in pods:
                self.remove(pod.key)

    def _count(self, pod: Pod, row: int, by: int) -> None:
        shape = pod.shape
        for column, number in shape.asked.items():
            self.requested[column, row] += by * number
        self.scored[0, row] += by * shape.scored[0]
        self.scored[1, row] += by * shape.scored[1]
        self.terms.change(shape.counted_as, row, by)
        if shape.anti_affinity:
            self.anti_affinity.change(shape.anti_affinity, row, by)
        if shape.affinity:
            self.affinity.change(shape.affinity, row, by)
        if shape.preferred:
            self.preferred.change(shape.preferred, row, by)
        for name, _ in shape.claims:
            claim = f"{shape.namespace}/{name}"
            users = self._claims.setdefault(claim, {})
            users[row] = users.get(row, 0) + by
            if not users[row]:
                del users[row]
                if not users:
                    del self._claims[claim]
        for disk, read_only in shape.disks:
            uses = self._disks.setdefault(disk, {}).setdefault(row, [])
            if by > 0:
                uses.append(read_only)
            else:
                uses.remove(read_only)
        for ip, protocol, port in shape.ports:
            addresses = self._ports.setdefault((protocol, port), {}).setdefault(row, {})
            addresses[ip] = addresses.get(ip, 0) + by
            if not addresses[ip]:
                del addresses[ip]
        self.log.add(row)

    def rows_with_port(self, ip: str, protocol: str, port: int) -> list[int]:
        """Rows where this host port is taken; 0.0.0.0 takes it for all addresses, and needs them all."""
        taken = self._ports.get((protocol, port), {})
        if ip == "0.0.0.0":
            return [row for row, addresses in taken.items() if addresses]
        return [row for row, addresses in taken.items() if ip in addresses or "0.0.0.0" in addresses]

    def rows_with_disk(self, disk: Disk, read_only: bool) -> list[int]:
        """Rows where a pod has this disk, unless all only read."""
        return [row for row, uses in self._disks.get(disk, {}).items() if uses and not (read_only and all(uses))]

    def rows_using(self, claim: str) -> list[int]:
        """Rows with pods that use this claim (`namespace/name`)."""
        return list(self._claims.get(claim, ()))

    def claims_in_use(self) -> Iterable[tuple[str, Iterable[int]]]:
        """(claim, rows with pods that use it) for every claim of a pod on a node."""
        return ((claim, rows.keys()) for claim, rows in self._claims.items())

    # -- arrays ------------------------------------------------------------------------------------------------------

    def _new_row(self, name: str) -> int:
        if not self._free:
            self._grow()
        row = self._rows[name] = self._free.pop()
        return row

    def _grow(self) -> None:
        old, new = self.capacity, self.capacity * 2
        extra = new - old
        self.allocatable = np.pad(self.allocatable, ((0, 0), (0, extra)))
        self.requested = np.pad(self.requested, ((0, 0), (0, extra)))
        self.scored = np.pad(self.scored, ((0, 0), (0, extra)))
        self.exists = np.pad(self.exists, (0, extra))
        self.unschedulable = np.pad(self.unschedulable, (0, extra))
        self.labels.grow(new)
        self.taints.grow(new)
        self.images.grow(new)
        self.terms.grow(new)
        for part in self._owned:
            part.grow(new)
        self.log.forget()
        self._nodes += [None] * extra
        self._on += [{} for _ in range(extra)]
        self._free += range(new - 1, old - 1, -1)

    def _fit_resources(self) -> None:
        """Give resources met for the first time their rows in the arrays."""
        missing = len(self.names) - self.allocatable.shape[0]
        if missing > 0:
            self.allocatable = np.pad(self.allocatable, ((0, missing), (0, 0)))
            self.requested = np.pad(self.requested, ((0, missing), (0, 0)))
