"""The metadata of objects on their way into storage: filled in, kept, checked.

Source: k8s.io/apiserver/pkg/registry/rest/{meta,create,update}.go;
k8s.io/apimachinery/pkg/api/validation/objectmeta.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from machinery.api import fielderror, names
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object, random_suffix, random_uuid
from machinery.errors import BadRequest

_ANNOTATIONS_LIMIT = 256 * 1024
_GENERATED_LIMIT = 63 - 5  # characters of generateName that are used, to leave room for the suffix
_EVENT_OWNERS = frozenset({("v1", "Event"), ("events.k8s.io/v1", "Event")})
STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_ANY_FINALIZER = frozenset(
    {
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
    }
)
"""Groups whose kinds take finalizers of any qualified name."""

NameCheck = Callable[[str], list[str]]


def wipe(metadata: Object) -> None:
    """Forget what only the server may set on a new object."""
    for key in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "uid"):
        metadata.pop(key, None)


def fill(metadata: Object, now: str) -> None:
    """Give a new object its identity."""
    metadata["creationTimestamp"] = now
    metadata["uid"] = random_uuid()
    if metadata.get("generateName") and not metadata.get("name"):
        metadata["name"] = generated(metadata["generateName"])


def generated(base: str) -> str:
    """A name made from generateName."""
    return base[:_GENERATED_LIMIT] + random_suffix()


def match_namespace(metadata: Object, namespace: str, *, namespaced: bool) -> None:
    """Put the request's namespace into the object.

    Raises:
        BadRequest: the object names another one.
    """
    given = metadata.get("namespace") or ""
    if not namespaced:
        if given:
            metadata.pop("namespace")
        return
    if not given:
        metadata["namespace"] = namespace
    elif given != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")


def tidy_owners(metadata: Object, warnings: list[str], *, after_admission: bool) -> None:
    """Drop owner references that come twice, and say so."""
    owners = metadata.get("ownerReferences")
    if not owners or len(owners) < 2:
        return
    kept: list[Any] = []
    twice: list[str] = []
    for owner in owners:
        if owner in kept:
            if owner["uid"] not in twice:
                twice.append(owner["uid"])
        else:
            kept.append(owner)
    if not twice:
        return
    metadata["ownerReferences"] = kept
    when = " after mutating admission happens" if after_admission else ""
    told = ", ".join(twice)
    warnings.append(
        ".metadata.ownerReferences contains duplicate entries"
        f"{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; "
        f"please fix your requests; duplicate UID(s) observed: {told}"
    )


def masked(prefix: str) -> str:
    """generateName as it is checked: what it ends with need not be what a name may end with."""
    return prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def validate(metadata: Object, *, namespaced: bool, check_name: NameCheck | None) -> list[FieldError]:
    """What is wrong with the metadata of a new object."""
    check = check_name or names.dns1123_subdomain
    errors: list[FieldError] = []
    name, prefix = metadata.get("name") or "", metadata.get("generateName") or ""
    if prefix:
        errors += [fielderror.invalid("metadata.generateName", prefix, told) for told in check(masked(prefix))]
    if not name:
        errors.append(fielderror.required("metadata.name", "name or generateName is required"))
    else:
        errors += [fielderror.invalid("metadata.name", name, told) for told in check(name)]
    namespace = metadata.get("namespace") or ""
    if namespaced and not namespace:
        errors.append(fielderror.required("metadata.namespace"))
    elif namespaced:
        errors += [fielderror.invalid("metadata.namespace", namespace, t) for t in names.dns1123_label(namespace)]
    elif namespace:
        errors.append(fielderror.forbidden("metadata.namespace", "not allowed on this type"))
    if (metadata.get("generation") or 0) < 0:
        told = "must be greater than or equal to 0"
        errors.append(fielderror.invalid("metadata.generation", metadata["generation"], told))
    errors += _common(metadata)
    errors += _finalizers(metadata)
    return errors


def named_values_errors(key: str, given: Mapping[str, str]) -> list[FieldError]:
    """What is wrong with labels or annotations (`key` says which)."""
    errors: list[FieldError] = []
    if key == "labels":
        for name, value in sorted(given.items()):
            errors += [fielderror.invalid("metadata.labels", name, told) for told in names.qualified_name(name)]
            errors += [fielderror.invalid("metadata.labels", value, told) for told in names.label_value(value)]
        return errors
    size = 0
    for name, value in given.items():
        told_key = names.qualified_name(name.lower())
        errors += [fielderror.invalid("metadata.annotations", name, told) for told in told_key]
        size += len(name.encode()) + len(value.encode())
    if size > _ANNOTATIONS_LIMIT:
        errors.append(fielderror.too_long("metadata.annotations", _ANNOTATIONS_LIMIT))
    return errors


def _common(metadata: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("labels", "annotations"):
        if metadata.get(key):
            errors += named_values_errors(key, metadata[key])
    owners = metadata.get("ownerReferences")
    if owners:
        errors += _owners(owners)
    return errors


def finalizer_names(metadata: Object, group: str, *, custom: bool) -> list[FieldError]:
    """Finalizers that are neither standard ones nor qualified by a domain: most built-in kinds do not take them.

    Source: pkg/apis/core/validation (ValidateObjectMeta), and who does not call it.
    """
    if custom or group in _ANY_FINALIZER:
        return []
    told = "name is neither a standard finalizer name nor is it fully qualified"
    return [
        fielderror.invalid(f"metadata.finalizers[{i}]", finalizer, told)
        for i, finalizer in enumerate(metadata.get("finalizers") or ())
        if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS
    ]


def _owners(owners: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for i, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{i}]"
        version, kind = owner.get("apiVersion") or "", owner.get("kind") or ""
        name, uid = owner.get("name") or "", owner.get("uid") or ""
        if not version:
            errors.append(fielderror.invalid(f"{path}.apiVersion", version, "version must not be empty"))
        if not kind:
            errors.append(fielderror.invalid(f"{path}.kind", kind, "must not be empty"))
        if not name:
            errors.append(fielderror.invalid(f"{path}.name", name, "must not be empty"))
        if not uid:
            errors.append(fielderror.invalid(f"{path}.uid", uid, "must not be empty"))
        if (version, kind) in _EVENT_OWNERS:
            shown = version.replace("/", "/") if "/" in version else f"/{version}"
            told = f"{shown}, Kind={kind} is disallowed from being an owner"
            errors.append(fielderror.invalid(path, owner, told))
        if owner.get("controller"):
            if controller:
                told = (
                    f'Only one reference can have Controller set to true. Found "true" in references for {controller}'
                    f" and {name}"
                )
                errors.append(fielderror.invalid("metadata.ownerReferences", owners, told))
            controller = name
    return errors


def _finalizers(metadata: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    finalizers = metadata.get("finalizers") or []
    for finalizer in finalizers:
        errors += [fielderror.invalid("metadata.finalizers", finalizer, t) for t in names.qualified_name(finalizer)]
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        told_both = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(fielderror.invalid("metadata.finalizers", finalizers, told_both))
    return errors


def keep(metadata: Object, old: Object) -> None:
    """Carry over to a changed object what an update can't take away."""
    if not metadata.get("uid") and old.get("uid"):
        metadata["uid"] = old["uid"]
    if old.get("creationTimestamp"):
        metadata["creationTimestamp"] = old["creationTimestamp"]
    if old.get("deletionTimestamp") and not metadata.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = old["deletionTimestamp"]
    if old.get("deletionGracePeriodSeconds") is not None and metadata.get("deletionGracePeriodSeconds") is None:
        metadata["deletionGracePeriodSeconds"] = old["deletionGracePeriodSeconds"]
    metadata.pop("selfLink", None)


_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def validate_update(metadata: Object, old: Object) -> list[FieldError]:
    """What is wrong with the metadata of a changed object."""
    errors: list[FieldError] = []
    if old.get("deletionTimestamp"):
        before = old.get("finalizers") or []
        added = sorted(f for f in metadata.get("finalizers") or [] if f not in before)
        if added:
            shown = "[]string{" + ", ".join(fielderror.show(f) for f in added) + "}"
            told = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
            errors.append(fielderror.forbidden("metadata.finalizers", told))
    if (metadata.get("generation") or 0) < (old.get("generation") or 0):
        told = "must not be decremented"
        errors.append(fielderror.invalid("metadata.generation", metadata.get("generation") or 0, told))
    errors += [
        fielderror.invalid(f"metadata.{field}", metadata.get(field), "field is immutable")
        for field in _IMMUTABLE
        if metadata.get(field) != old.get(field)
    ]
    return errors + _common(metadata)
