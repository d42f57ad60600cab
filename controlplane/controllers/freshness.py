"""Whether the cache shows what this process wrote last: decisions on an older state of one's own would be made twice.

Resource versions of one resource are compared as numbers.

Source: KEP-5504 (comparable resource versions).
"""

from __future__ import annotations

from machinery.api.meta import Object, key_of


def revision_of(obj: Object) -> int:
    """metadata.resourceVersion as a number, 0 if it is none."""
    text = str(obj["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0


class Written:
    """The revision of each object after this process' last write of it."""

    def __init__(self) -> None:
        self._revisions: dict[str, int] = {}

    def note(self, obj: Object) -> None:
        """`obj` is what a write gave back."""
        self._revisions[key_of(obj)] = revision_of(obj)

    def is_stale(self, key: str, cached: Object) -> bool:
        """Whether the cached object is older than the last write; its change will lead to another look."""
        revision = self._revisions.get(key)
        if revision is None:
            return False
        if revision_of(cached) < revision:
            return True
        del self._revisions[key]
        return False

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._revisions.pop(key, None)
