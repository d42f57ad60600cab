"""What makes a resource type itself: the functions that the generic handlers call on the way of a write or a print.

Every resource has one `Strategy`; `registry/__init__.py`'s `strategy_for(resource)` finds it.  All functions are pure:
they see dicts, may change only the first argument where it says "in place", and do no I/O.  What needs other objects
gets it from `Context`.  What is left at its default behaves like a plain object with no rules but those of metadata.

Order of a create: prune and check types (schema) → `default` → mutating admission → name and uid are given →
`prepare_create` → `validate` → validating admission → store.
Order of an update: … → `default` → mutating admission → `prepare_update(new, old)` → `validate_update(new, old)` →
validating admission → store.
A status update runs `prepare_status_update` and `validate_status_update` in place of these.
The generic part itself handles metadata: names, generateName, uid, creationTimestamp, generation as `prepare_*` ask,
managedFields, finalizers, deletionTimestamp, and validates metadata on create and update.

Source: k8s.io/apiserver/pkg/registry/rest (RESTCreateStrategy, RESTUpdateStrategy), pkg/registry/*/strategy.go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object


@dataclass(frozen=True, slots=True)
class Context:
    """What a strategy may know besides the object."""

    user: User
    reader: Reader
    now: str  # RFC 3339, whole seconds
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    privileged: bool = False  # whether containers may be privileged
    warnings: list[str] = field(default_factory=list)  # what preparing an object has to tell its writer
    verb: str = ""
    authorize: Callable[[User, RequestInfo], Awaitable[tuple[bool, str]]] | None = None
    """Whether a user may do something else as well; None where nobody is asked."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`. `cell(obj)` gives its value: str, int, bool, None or a `printing.Age`.

    Priority 0 is always shown, 1 only with -o wide.  Source: meta/v1 TableColumnDefinition.
    """

    name: str
    type: str  # string, integer, date, boolean, number
    cell: Callable[[Object], Any]
    format: str = ""  # name for the Name column
    description: str = ""
    priority: int = 0


def _nothing(*_: Any) -> None:
    return None


def _no_errors(*_: Any) -> list[FieldError]:
    return []


async def _permitted(*_: Any) -> list[FieldError]:
    return []


def _no_warnings(*_: Any) -> list[str]:
    return []


def _no_conditions(*_: Any) -> list[Object]:
    return []


@dataclass(frozen=True, slots=True)
class Strategy:
    """The behaviour of one resource type."""

    default: Callable[[Object], None] = _nothing
    """Fill in defaults, in place; called on what clients send, so it must bear anything the schema lets through."""

    prepare_create: Callable[[Object, Context], None] = _nothing
    """Make a new object what may be stored, in place: drop status, set metadata.generation=1 where the kind has one."""

    prepare_update: Callable[[Object, Object, Context], None] = _nothing
    """(new in place, old): keep what clients may not change (status), count metadata.generation up if spec changed."""

    prepare_status_update: Callable[[Object, Object, Context], None] = _nothing
    """(new in place, old): keep everything but status (and what else the kind lets status writers change)."""

    settle: Callable[[Object], None] = _nothing
    """What else a valid new object gets, in place: what upstream's defaults add when it is read back from storage."""

    validate: Callable[[Object], list[FieldError]] = _no_errors
    validate_update: Callable[[Object, Object], list[FieldError]] = _no_errors
    validate_status_update: Callable[[Object, Object], list[FieldError]] = _no_errors

    permitted: Callable[[Object, Object | None, Context], Awaitable[list[FieldError]]] = _permitted
    """(new, old or None): what is wrong not with the object but with having it here; asked of status updates, too."""

    warnings: Callable[[Object, Object | None], list[str]] = _no_warnings
    """(new, old or None): texts for Warning headers."""

    deprecated: str = ""
    """The text of a Warning header on every answer about the resource."""

    validate_name: Callable[[str], list[str]] | None = None
    """What is wrong with a name of this kind (None: a DNS-1123 subdomain)."""

    has_status: bool = False
    """Whether objects have a status that only the status subresource writes."""

    columns: Sequence[Column] = ()
    """Columns of the Table form; () stands for Name and Age."""

    row_conditions: Callable[[Object], list[Object]] = _no_conditions
    """What a Table row says in `conditions` (pods that have ended)."""

    hidden_annotation: str = ""
    """An annotation that partial metadata don't show, because upstream makes it only when it encodes the object."""

    row_order: Callable[[Object], Any] | None = None
    """By what the rows of a list's Table are sorted (None: they stand as in the list)."""

    fields: dict[str, Callable[[Object], str]] = field(default_factory=dict)
    """Field selectors besides metadata.name and metadata.namespace: `spec.nodeName` → value."""

    allow_create_on_update: bool = False
    """Whether PUT to a name that does not exist creates it (Leases, Endpoints, RBAC, …)."""

    allow_unconditional_update: bool = True
    """Whether PUT without resourceVersion is accepted."""

    default_grace_seconds: Callable[[Object, int | None], int] | None = None
    """Graceful deletion (Pods): (object, seconds asked for or None) → seconds to wait, 0 for at once."""
