"""What an object gets from pools shared by the cluster (addresses and ports of Services), taken and given back.

The write handlers call an allocator around each write, so that what a write that fails has taken is given back, and
what a change or deletion frees is free afterwards.
"""

from __future__ import annotations

from typing import Protocol

from controlplane.apiserver.registry.strategy import Context
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


class Grant(Protocol):
    """What was taken for one write that is under way. Exactly one of the two is called, once."""

    async def keep(self) -> None:
        """The write took place: give back what the object had and has no more."""
        ...

    async def give_back(self) -> None:
        """The write did not take place: give back what was taken for it."""
        ...


class Allocator(Protocol):
    """Takes what new and changed objects need."""

    def handles(self, resource: ResourceType) -> bool:
        """Whether objects of this type need anything."""
        ...

    async def take(self, new: Object, old: Object | None, context: Context) -> Grant:
        """Fill in (in place) what `new` asks for. Raises Invalid when it can't be had."""
        ...

    async def release(self, resource: ResourceType, old: Object) -> None:
        """The object is gone: give back what it had."""
        ...


class NoAllocation:
    """For servers that hand out nothing."""

    def handles(self, resource: ResourceType) -> bool:
        """See `Allocator`."""
        return False

    async def take(self, new: Object, old: Object | None, context: Context) -> Grant:
        """See `Allocator`."""
        return NOTHING_TAKEN

    async def release(self, resource: ResourceType, old: Object) -> None:
        """See `Allocator`."""


class _NothingTaken:
    async def keep(self) -> None:
        return None

    async def give_back(self) -> None:
        return None


NOTHING_TAKEN: Grant = _NothingTaken()
