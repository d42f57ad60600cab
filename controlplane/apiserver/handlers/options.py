"""The options of reads and writes, from URLs and bodies, checked as upstream checks them.

Source: meta/v1 {Create,Update,Patch,Delete,Get,List}Options; k8s.io/apimachinery/pkg/apis/meta/v1/validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.apiserver.handlers import decoding
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.routing import Query
from machinery.api import fielderror
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.errors import BadRequest, Invalid, StatusError

_FIELD_MANAGER_LIMIT = 128
_VALIDATIONS = ("Ignore", "Strict", "Warn")
_PROPAGATIONS = ("Foreground", "Background", "Orphan")
_UNSAFE = "ignoreStoreReadErrorWithClusterBreakingPotential"
_NOT_WITH_UNSAFE = ("dryRun", "propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions")


def parse_integer(text: str, name: str = "") -> int:
    """A 64-bit integer of a URL. Raises BadRequest as Go's strconv words it."""
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        raise BadRequest(f"strconv.ParseInt: parsing {fielderror.show(text)}: invalid syntax")
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise BadRequest(f"strconv.ParseInt: parsing {fielderror.show(text)}: value out of range")
    return value


def invalid_options(kind: str, errors: list[FieldError]) -> Invalid:
    """The 422 for options."""
    return fielderror.invalid_object("meta.k8s.io", kind, "", errors)


def not_supported(path: str, value: object, allowed: Iterable[str]) -> FieldError:
    """As `fielderror.not_supported`, in the order given."""
    shown = ", ".join(fielderror.show(v) for v in allowed)
    body = f"Unsupported value: {fielderror.show(value)}: supported values: {shown}"
    return FieldError("FieldValueNotSupported", path, body)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of a create, update or patch."""

    dry_run: bool = False
    manager: str = ""
    """As given; see `manager_of`."""
    validation: str = "Warn"
    force: bool = False


def _dry_run_errors(values: list[str]) -> list[FieldError]:
    if any(value != "All" for value in values):
        return [not_supported("dryRun", values, ["All"])]
    return []


def _manager_errors(manager: str) -> list[FieldError]:
    errors = []
    if len(manager) > _FIELD_MANAGER_LIMIT:
        errors.append(fielderror.too_long("fieldManager", _FIELD_MANAGER_LIMIT))
    for i, char in enumerate(manager):
        if not char.isprintable():
            told = f"invalid character U+{ord(char):04X} (at position {i})"
            errors.append(fielderror.invalid("fieldManager", manager, told))
    return errors


def write_options(query: Query, kind: str, *, apply: bool = False) -> WriteOptions:
    """The options of a write from its URL; `kind` is CreateOptions, UpdateOptions or PatchOptions.

    Raises:
        Invalid: some are not acceptable.
    """
    if not query:
        return _DEFAULT if not apply else _checked_write([], "", "", False, kind, apply=True, force_given=False)
    dry_run = query.all("dryRun")
    return _checked_write(
        dry_run,
        query.get("fieldManager"),
        query.get("fieldValidation"),
        query.flag("force"),
        kind,
        apply=apply,
        force_given="force" in query,
    )


def _checked_write(
    dry_run: list[str], manager: str, validation: str, force: bool, kind: str, *, apply: bool, force_given: bool
) -> WriteOptions:
    errors: list[FieldError] = []
    if kind == "PatchOptions":
        if not apply:
            if force_given:
                errors.append(fielderror.forbidden("force", "may not be specified for non-apply patch"))
        elif not manager:
            errors.append(fielderror.required("fieldManager", "is required for apply patch"))
    errors += _manager_errors(manager)
    errors += _dry_run_errors(dry_run)
    if validation and validation not in _VALIDATIONS:
        errors.append(not_supported("fieldValidation", validation, ["", *_VALIDATIONS]))
    if errors:
        raise invalid_options(kind, errors)
    return WriteOptions(bool(dry_run), manager, validation or "Warn", force)


_DEFAULT = WriteOptions()


def manager_of(manager: str, exchange: Exchange) -> str:
    """Under which name a write is told in managedFields: as asked, or the client program's name."""
    if manager:
        return manager
    agent = exchange.headers.get("User-Agent", "").partition("/")[0]
    shown = "".join(char for char in agent if char.isprintable())
    return shown.encode()[:_FIELD_MANAGER_LIMIT].decode("utf-8", "ignore") or "unknown"


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of a delete."""

    grace_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    orphan: bool | None = None
    propagation: str | None = None
    dry_run: bool = False
    ignore_store_read_error: bool = False
    as_object: Object = field(default_factory=dict)
    """For admission."""


def delete_options(exchange: Exchange, body: bytes) -> DeleteOptions:
    """Options from the body, or if there is none from the URL.

    Raises:
        BadRequest, Invalid, UnsupportedMediaType
    """
    if body:
        return _from_body(exchange, body)
    query = exchange.query
    if not query:
        return DeleteOptions()
    grace = parse_integer(query.get("gracePeriodSeconds")) if "gracePeriodSeconds" in query else None
    made: Object = {}
    if grace is not None:
        made["gracePeriodSeconds"] = grace
    if "orphanDependents" in query:
        made["orphanDependents"] = query.flag("orphanDependents")
    if "propagationPolicy" in query:
        made["propagationPolicy"] = query.get("propagationPolicy")
    if query.all("dryRun"):
        made["dryRun"] = query.all("dryRun")
    if _UNSAFE in query:
        made[_UNSAFE] = query.flag(_UNSAFE)
    return _checked_delete(made)


def _from_body(exchange: Exchange, body: bytes) -> DeleteOptions:
    media = decoding.media_type(exchange)
    try:
        parsed = decoding.parse(body, media)
        api_version, kind = decoding.type_of(parsed.value)
    except decoding.Unrecognized as exc:
        raise BadRequest(str(exc)) from exc
    if kind not in ("", "DeleteOptions"):
        scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
        raise BadRequest(f'no kind "{kind}" is registered for version "{api_version}" in scheme "{scheme}"')
    value = parsed.value or {}
    _check_types(value)
    return _checked_delete({k: v for k, v in value.items() if v is not None})


_TYPES: dict[str, tuple[type, str]] = {
    "gracePeriodSeconds": (int, "int64"),
    "orphanDependents": (bool, "bool"),
    "propagationPolicy": (str, "v1.DeletionPropagation"),
    "preconditions": (dict, "v1.Preconditions"),
    "dryRun": (list, "[]string"),
    _UNSAFE: (bool, "bool"),
}


def _check_types(value: Object) -> None:
    for key, (kind, name) in _TYPES.items():
        given = value.get(key)
        if given is None:
            continue
        if not isinstance(given, kind) or (kind is int and isinstance(given, bool)):
            raise _mistyped(given, f"DeleteOptions.{key}", name)
    seconds = value.get("gracePeriodSeconds")
    if seconds is not None and not -(2**63) <= seconds < 2**63:
        raise _mistyped(seconds, "DeleteOptions.gracePeriodSeconds", "int64")
    for key in ("uid", "resourceVersion"):
        given = (value.get("preconditions") or {}).get(key)
        if given is not None and not isinstance(given, str):
            raise _mistyped(given, f"Preconditions.preconditions.{key}", "types.UID" if key == "uid" else "string")
    for item in value.get("dryRun") or ():
        if item is not None and not isinstance(item, str):
            raise _mistyped(item, "DeleteOptions.dryRun", "string")


def _mistyped(given: object, where: str, name: str) -> BadRequest:
    number = f"number {given}" if name == "int64" else "number"
    shown = {str: "string", dict: "object", list: "array", bool: "bool"}.get(type(given), number)
    return BadRequest(f"json: cannot unmarshal {shown} into Go struct field {where} of type {name}")


def _unsafe_errors(options: Object) -> list[FieldError]:
    """What can't be asked together with deleting what can't be read."""
    if options.get(_UNSAFE) is not True:
        return []
    given = [key for key in _NOT_WITH_UNSAFE if options.get(key) not in (None, [])]
    return [fielderror.invalid(_UNSAFE, True, f"cannot be set together with .{key}") for key in given]


def checked_delete_options(given: Object) -> DeleteOptions:
    """Options that are part of another object. Raises BadRequest, Invalid."""
    _check_types(given)
    return _checked_delete({k: v for k, v in given.items() if v is not None and k not in ("kind", "apiVersion")})


def _checked_delete(made: Object) -> DeleteOptions:
    errors: list[FieldError] = []
    propagation = made.get("propagationPolicy")
    orphan = made.get("orphanDependents")
    if orphan is not None and propagation is not None:
        told = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(fielderror.invalid("propagationPolicy", propagation, told))
    if propagation is not None and propagation not in _PROPAGATIONS:
        errors.append(not_supported("propagationPolicy", propagation, [*_PROPAGATIONS, "nil"]))
    dry_run = [value or "" for value in made.get("dryRun") or ()]
    errors += _dry_run_errors(dry_run)
    errors += _unsafe_errors(made)
    if errors:
        raise invalid_options("DeleteOptions", errors)
    preconditions = made.get("preconditions") or {}
    return DeleteOptions(
        grace_seconds=made.get("gracePeriodSeconds"),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        orphan=orphan,
        propagation=propagation,
        dry_run=bool(dry_run),
        as_object={"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", **made},
    )


def parse_revision(text: str) -> int:
    """A resourceVersion; "" is 0. Raises a StatusError as upstream's storage does (500 without a reason)."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or int(text) >= 2**64:
        raise StatusError.plain(f"resourceVersion: Invalid value: {fielderror.show(text)}: {_parse_uint(text)}")
    return int(text)


def parse_object_revision(text: str) -> int:
    """metadata.resourceVersion of an object that is written. Raises a StatusError as `parse_revision`."""
    try:
        return parse_revision(text)
    except StatusError:
        raise StatusError.plain(_parse_uint(text)) from None


def _parse_uint(text: str) -> str:
    kind = "value out of range" if text.isdigit() else "invalid syntax"
    return f"strconv.ParseUint: parsing {fielderror.show(text)}: {kind}"
