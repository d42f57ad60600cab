"""What most kinds do the same way before they are stored: status and generation.

A rule is made for a kind by naming what differs; `prepare_create(status={...}, generation=True)` is a function
for `Strategy.prepare_create`.

Source: API conventions, "Metadata" (generation), "Spec and Status"; pkg/registry/*/strategy.go.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from controlplane.apiserver.registry.objects import child, set_or_drop, sub
from controlplane.apiserver.registry.strategy import Context
from machinery.api.meta import Object

Create = Callable[[Object, Context], None]
Update = Callable[[Object, Object, Context], None]

METADATA_KEPT_BY_STATUS = ("labels", "annotations", "finalizers", "ownerReferences")


def prepare_create(*, status: Object | None = None, generation: bool = False) -> Create:
    """Replace what clients sent as status (None: the kind has none), and start counting generations."""

    def prepare(obj: Object, context: Context) -> None:
        if status is not None:
            obj["status"] = copy.deepcopy(status)
        metadata = child(obj, "metadata")
        if generation:
            metadata["generation"] = 1
        else:
            metadata.pop("generation", None)

    return prepare


def prepare_update(*, status: bool = False, counts: Sequence[str] = (), metadata_counts: Sequence[str] = ()) -> Update:
    """Keep the old status, and count metadata.generation up when one of the fields in `counts` changed."""

    def prepare(new: Object, old: Object, context: Context) -> None:
        if status:
            set_or_drop(new, "status", old)
        keep_generation(new, old)
        changed = any(new.get(key) != old.get(key) for key in counts) or any(
            (sub(new, "metadata").get(key) or None) != (sub(old, "metadata").get(key) or None)
            for key in metadata_counts
        )
        if changed:
            count_generation(new, old)

    return prepare


def prepare_status_update(*, metadata: Sequence[str] = (), keep: Sequence[str] = ("spec",)) -> Update:
    """Take all of `keep` and these fields of metadata from the old object."""

    def prepare(new: Object, old: Object, context: Context) -> None:
        for key in keep:
            set_or_drop(new, key, old)
        keep_metadata(new, old, metadata)
        keep_generation(new, old)

    return prepare


def keep_metadata(new: Object, old: Object, keys: Sequence[str]) -> None:
    """Take these fields of metadata from the old object."""
    if keys:
        target, source = child(new, "metadata"), sub(old, "metadata")
        for key in keys:
            set_or_drop(target, key, source)


def keep_generation(new: Object, old: Object) -> None:
    """Clients don't write metadata.generation."""
    set_or_drop(child(new, "metadata"), "generation", sub(old, "metadata"))


def count_generation(new: Object, old: Object) -> None:
    """What the client asks for has changed: one generation more."""
    generation = sub(old, "metadata").get("generation")
    child(new, "metadata")["generation"] = (generation if isinstance(generation, int) else 0) + 1
