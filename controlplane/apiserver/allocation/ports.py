"""Node ports: one bitmap in storage, changed by conditional writes.

Source: pkg/registry/core/service/portallocator, RangeAllocation; KEP-3668, "Reserve Service NodePort ranges".
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

from controlplane.apiserver.allocation.addresses import NotAllocated
from controlplane.apiserver.storage.contract import Storage
from machinery.errors import RevisionConflict

_STATIC_LEAST, _STATIC_MOST = 16, 128


@dataclass(frozen=True, slots=True)
class _State:
    taken: int  # bit i: port first+i
    revision: int


@dataclass
class NodePorts:
    """Takes and gives back node ports of a range (first, last)."""

    storage: Storage
    prefix: str
    span: tuple[int, int]
    _key: str = field(init=False)

    def __post_init__(self) -> None:
        self._key = f"{self.prefix}ranges/servicenodeports"

    @property
    def _size(self) -> int:
        return self.span[1] - self.span[0] + 1

    @property
    def _static(self) -> int:
        """How many ports at the start are left to those who choose themselves."""
        size = self._size
        return 0 if size < _STATIC_LEAST else min(max(_STATIC_LEAST, size // 32), _STATIC_MOST)

    async def _read(self) -> _State:
        stored, _ = await self.storage.get(self._key)
        if stored is None:
            return _State(0, 0)
        obj = orjson.loads(stored.value)
        first, _, last = str(obj.get("range", "")).partition("-")
        taken = int.from_bytes(base64.b64decode(obj.get("data") or ""), "big")
        if (first, last) != (str(self.span[0]), str(self.span[1])):
            taken = self._moved(taken, int(first or 0))
        return _State(taken, stored.revision)

    def _moved(self, taken: int, first: int) -> int:
        """The bitmap of another range as one of this range."""
        ports = [first + i for i in range(taken.bit_length()) if taken >> i & 1]
        return sum(1 << (port - self.span[0]) for port in ports if self.span[0] <= port <= self.span[1])

    async def _write(self, taken: int, expected: int) -> bool:
        data = taken.to_bytes((taken.bit_length() + 7) // 8, "big")
        obj = {
            "kind": "RangeAllocation",
            "apiVersion": "v1",
            "metadata": {},
            "range": f"{self.span[0]}-{self.span[1]}",
            "data": base64.b64encode(data).decode(),
        }
        try:
            await self.storage.put(self._key, orjson.dumps(obj), expected=expected)
        except RevisionConflict:
            return False
        return True

    async def take(self, port: int, *, dry_run: bool) -> None:
        """Take this port. Raises NotAllocated."""
        first, last = self.span
        if not first <= port <= last:
            told = f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
            raise NotAllocated(told)
        bit = 1 << (port - first)
        while True:
            state = await self._read()
            if state.taken & bit:
                raise NotAllocated("provided port is already allocated")
            if dry_run or await self._write(state.taken | bit, state.revision):
                return

    async def choose(self, avoid: Iterable[int], *, dry_run: bool) -> int:
        """Take a free port other than these. Raises NotAllocated when there is none."""
        others = {port - self.span[0] for port in avoid}
        while True:
            state = await self._read()
            offset = self._free(state.taken, others)
            if offset is None:
                raise NotAllocated("range is full")
            if dry_run or await self._write(state.taken | 1 << offset, state.revision):
                return self.span[0] + offset

    def _free(self, taken: int, avoid: set[int]) -> int | None:
        for low, high in ((self._static, self._size), (0, self._static)):
            free = [i for i in range(low, high) if not taken >> i & 1 and i not in avoid]
            if free:
                return secrets.choice(free)
        return None

    async def give_back(self, ports: Iterable[int]) -> None:
        """Give back these ports."""
        first, last = self.span
        mask = sum(1 << (port - first) for port in set(ports) if first <= port <= last)
        while mask:
            state = await self._read()
            if not state.taken & mask or await self._write(state.taken & ~mask, state.revision):
                return

    async def repair(self, used: Iterable[int]) -> set[int]:
        """See to it that these ports are taken; returns those that are taken and not among them."""
        first, last = self.span
        mask = sum(1 << (port - first) for port in set(used) if first <= port <= last)
        while True:
            state = await self._read()
            if not mask & ~state.taken or await self._write(state.taken | mask, state.revision):
                extra = state.taken & ~mask
                return {first + i for i in range(extra.bit_length()) if extra >> i & 1}
