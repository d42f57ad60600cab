"""How the parts of the API server look at objects that are stored: from memory, at once, without copying.

The watch cache implements it.  What it returns is shared and must not be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from machinery.api.meta import Object
from machinery.api.resource import ResourceType

OnChange = Callable[[Object | None, Object | None], None]
"""Called with (old, new) in the order of revisions; old is None for a new object, new for a deleted one."""


class Reader(Protocol):
    """Objects as last seen in storage."""

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        ...

    def list(self, resource: ResourceType, namespace: str = "") -> Iterable[Object]:
        """All objects of the type, or those of one namespace, ordered by key."""
        ...

    def on_change(self, resource: ResourceType, callback: OnChange, *, holding: str = "") -> None:
        """Have `callback` called for every object there is, and then for every change.

        Objects in whose JSON (without spaces) the text `holding` does not occur count as if they were not there: they
        need not be parsed.
        """
        ...

    async def get_latest(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        """The object as of now: waits until memory has caught up with storage."""
        ...
