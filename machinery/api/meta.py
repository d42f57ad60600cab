"""Reading and building the parts that every object has.

An object is the JSON it travels as: a dict.  `Object` is that dict; nothing here copies it.

Source: API conventions, "Metadata", "Typical status properties"; meta/v1.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from machinery.api.resource import ResourceType

Object = dict[str, Any]

# Letters and digits of generated names: no vowels, nor characters that are easily confused.
# Source: k8s.io/apimachinery/pkg/util/rand.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_UUID_VARIANTS = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def name_of(obj: Object) -> str:
    """metadata.name, or ""."""
    return str(obj.get("metadata", {}).get("name") or "")


def namespace_of(obj: Object) -> str:
    """metadata.namespace, or "" for a cluster-scoped object."""
    return str(obj.get("metadata", {}).get("namespace") or "")


def uid_of(obj: Object) -> str:
    """metadata.uid, or ""."""
    return str(obj.get("metadata", {}).get("uid") or "")


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` for a cluster-scoped object: the key of stores and work queues."""
    namespace = namespace_of(obj)
    return f"{namespace}/{name_of(obj)}" if namespace else name_of(obj)


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name) of a key; namespace is "" for a cluster-scoped object."""
    namespace, slash, name = key.rpartition("/")
    return (namespace, name) if slash else ("", key)


def labels_of(obj: Object) -> dict[str, str]:
    """metadata.labels, or an empty dict (not to be written to)."""
    return obj.get("metadata", {}).get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """metadata.annotations, or an empty dict (not to be written to)."""
    return obj.get("metadata", {}).get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    """Whether deletion has been asked for and the object lives on (finalizers, grace period)."""
    return bool(obj.get("metadata", {}).get("deletionTimestamp"))


def random_uuid() -> str:
    """A random UUID (version 4), made in a third of the time that uuid4 takes."""
    return uuid_of(os.urandom(16).hex())


def uuid_of(digits: str) -> str:
    """32 random hexadecimal digits as a UUID of version 4. Source: RFC 9562."""
    variant = _UUID_VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def random_suffix(length: int = 5) -> str:
    """The random end of a generated name."""
    return "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(length))


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds: meta/v1 Time."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    date = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    return f"{date}T{moment.hour:02}:{moment.minute:02}:{moment.second:02}Z"


def format_micro_time(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds: meta/v1 MicroTime (Leases, Events)."""
    return f"{format_time(moment)[:-1]}.{moment.microsecond:06}Z"


def parse_time(text: str) -> datetime:
    """A meta/v1 Time or MicroTime. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time without zone: {text!r}")
    return moment


def owner_reference(owner: Object, kind: ResourceType, *, controller: bool = True) -> Object:
    """The ownerReferences entry for a dependant of `owner`; a controller's reference blocks the owner's deletion."""
    reference = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
    }
    return reference | {"controller": True, "blockOwnerDeletion": True} if controller else reference


def controller_of(obj: Object) -> Object | None:
    """The ownerReferences entry with controller=true, if any."""
    return next((r for r in obj.get("metadata", {}).get("ownerReferences") or () if r.get("controller")), None)


def condition(conditions: Iterable[Object] | None, kind: str) -> Object | None:
    """The condition of this type in a list of conditions."""
    return next((c for c in conditions or () if c.get("type") == kind), None)


def set_condition(conditions: list[Object], new: Object, *, now: str) -> bool:
    """Put `new` (type, status, reason, message, …) into `conditions`; True if anything changed.

    lastTransitionTime moves to `now` only when the status changes.
    """
    old = condition(conditions, new["type"])
    if old is None:
        conditions.append({**new, "lastTransitionTime": new.get("lastTransitionTime", now)})
        return True
    if all(old.get(k) == v for k, v in new.items() if k != "lastTransitionTime"):
        return False
    changed = old.get("status") != new.get("status")
    old.update(new)
    if changed:
        old["lastTransitionTime"] = now
    return True
