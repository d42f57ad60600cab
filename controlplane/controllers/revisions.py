"""ControllerRevisions: the templates that a StatefulSet or DaemonSet had, so that it can go back to them.

Source: k8s.io/kubernetes/pkg/controller/history; kubectl rollout reads what is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controlplane.controllers.hashing import content_hash, normalised
from machinery.api.catalogue import CONTROLLERREVISIONS, DAEMONSETS, STATEFULSETS
from machinery.api.meta import (
    Object,
    annotations_of,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from machinery.api.resource import ResourceType
from machinery.client.rest import Client
from machinery.errors import AlreadyExists, NotFound

HASH_LABEL = "controller.kubernetes.io/hash"
POD_LABEL = "controller-revision-hash"
_HASH_LABELS = {STATEFULSETS: HASH_LABEL, DAEMONSETS: POD_LABEL}
"""What carries a revision's hash, by the kind of its owner."""


def number_of(revision: Object) -> int:
    """The revision's number; higher is younger."""
    return int(revision.get("revision") or 0)


def in_order(revisions: Iterable[Object]) -> list[Object]:
    """Oldest first."""
    return sorted(revisions, key=lambda r: (number_of(r), r["metadata"].get("creationTimestamp") or "", name_of(r)))


def template_patch(owner: Object) -> Object:
    """What a revision keeps: a patch that replaces the owner's template.

    Byte by byte what upstream's controllers write, which compare it so: theirs goes through Go's maps.
    """
    patch: Object = _as_go_map({"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}})
    return patch


def _as_go_map(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_go_map(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_as_go_map(item) for item in value]
    return value


def template_of(revision: Object) -> Object:
    """The template that a revision keeps."""
    template: Object = ((revision.get("data") or {}).get("spec") or {}).get("template") or {}
    return {name: value for name, value in template.items() if name != "$patch"}


def same_content(a: Object, b: Object) -> bool:
    """Whether two revisions keep the same."""
    return bool(normalised(a.get("data")) == normalised(b.get("data")))


def make(owner: Object, kind: ResourceType, number: int, collisions: int) -> Object:
    """A revision of the owner's present template."""
    data = template_patch(owner)
    digest = content_hash(data, collisions)
    labels = ((owner["spec"]["template"].get("metadata")) or {}).get("labels") or {}
    metadata: Object = {
        "name": f"{name_of(owner)[:223]}-{digest}",
        "namespace": namespace_of(owner),
        "labels": {**labels, _HASH_LABELS[kind]: digest},
        "ownerReferences": [owner_reference(owner, kind)],
    }
    if annotations := annotations_of(owner):
        metadata["annotations"] = dict(annotations)  # kubectl rollout history reads the change cause there
    return {
        "apiVersion": CONTROLLERREVISIONS.api_version,
        "kind": CONTROLLERREVISIONS.kind,
        "metadata": metadata,
        "data": data,
        "revision": number,
    }


@dataclass(frozen=True)
class RevisionPlan:
    """The revision of the owner's present template, and what has to be written for it."""

    update: Object
    create: bool = False
    renumber: bool = False
    duplicates: tuple[Object, ...] = ()
    """Older revisions that keep the same: left by name collisions, or adopted."""


def plan_revision(owner: Object, kind: ResourceType, known: list[Object], collisions: int) -> RevisionPlan:
    """Which revision is the present one: the last, an older one that gets a new number (a rollback), or a new one."""
    ordered = in_order(known)
    wanted = make(owner, kind, number_of(ordered[-1]) + 1 if ordered else 1, collisions)
    equal = [r for r in ordered if same_content(r, wanted)]
    if not equal:
        return RevisionPlan(wanted, create=True)
    duplicates = tuple(equal[:-1])
    if equal[-1] is ordered[-1]:
        return RevisionPlan(equal[-1], duplicates=duplicates)
    return RevisionPlan({**equal[-1], "revision": wanted["revision"]}, renumber=True, duplicates=duplicates)


def surplus(known: Iterable[Object], in_use: set[str], limit: int) -> list[Object]:
    """Revisions beyond the history limit that nothing uses (by name), oldest first; those in use do not count."""
    idle = [r for r in in_order(known) if name_of(r) not in in_use and not is_deleting(r)]
    return idle[: max(0, len(idle) - limit)]


class Collision(Exception):
    """The name of a new revision belongs to another content."""


@dataclass(frozen=True)
class RevisionHand:
    """Writes revisions."""

    client: Client

    async def write(self, plan: RevisionPlan) -> Object:
        """Create or renumber the revision; returns it as stored. Raises Collision."""
        if plan.renumber:
            return await self.client.update(CONTROLLERREVISIONS, plan.update)
        if not plan.create:
            return plan.update
        try:
            return await self.client.create(CONTROLLERREVISIONS, plan.update)
        except AlreadyExists:
            update = plan.update
            found = await self.client.get(CONTROLLERREVISIONS, name_of(update), namespace_of(update))
            if same_content(found, update):
                return found
            raise Collision from None

    async def hashed(self, revision: Object) -> Object:
        """The revision of a DaemonSet with the label that tells its hash: its name, where one was made without."""
        if POD_LABEL in labels_of(revision):
            return revision
        labels = {**labels_of(revision), POD_LABEL: name_of(revision)}
        changed = {**revision, "metadata": {**revision["metadata"], "labels": labels}}
        return await self.client.update(CONTROLLERREVISIONS, changed)

    async def delete(self, revisions: Iterable[Object]) -> None:
        """Delete revisions."""

        async def one(revision: Object) -> None:
            try:
                await self.client.delete(
                    CONTROLLERREVISIONS, name_of(revision), namespace_of(revision), uid=uid_of(revision)
                )
            except NotFound:
                return

        await asyncio.gather(*map(one, revisions))


def revision_label(pod: Object) -> str:
    """The pod's controller-revision-hash label."""
    return labels_of(pod).get(POD_LABEL, "")
