"""Validation of CustomResourceDefinitions.

Messages name fields as upstream's internal type does, where what all versions have in common stands once at the top:
spec.validation, spec.subresources, spec.additionalPrinterColumns, spec.selectableFields, spec.version.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go, pkg/apihelpers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.apiserver.registry.objects import flag, items, sub, text, values
from controlplane.apiserver.registry.validation.definition_parts import (
    Allowed,
    accepted_names,
    allowed_before,
    approval_errors,
    column,
    conversion,
    required_names,
    scale,
    selectable,
    word,
)
from machinery.api import meta, names
from machinery.api.fielderror import FieldError, invalid, required, show
from machinery.api.meta import Object
from machinery.api.structural import definition as schemas
from machinery.api.structural import formats
from machinery.api.structural.forms import internal_schema

_SCOPES: Final = ("Cluster", "Namespaced")
_SHARED: Final = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def definition(obj: Object) -> list[FieldError]:
    """A new CustomResourceDefinition."""
    spec = sub(obj, "spec")
    errors: list[FieldError] = []
    if prefix := text(obj, "metadata", "generateName"):
        errors += _name("metadata.generateName", prefix, prefix.removesuffix("-"), spec)
    errors += _name("metadata.name", meta.name_of(obj), meta.name_of(obj), spec)
    errors += _spec(spec, {}, schemas_required=True, allowed=Allowed())
    errors += accepted_names(sub(obj, "status", "acceptedNames"), "status.acceptedNames")
    errors += stored_versions(obj)
    errors += approval_errors(obj, None)
    if flag(spec, "preserveUnknownFields"):
        errors.append(_preserve())
    return errors


def _name(field: str, given: str, checked: str, spec: Object) -> Iterator[FieldError]:
    yield from (invalid(field, given, told) for told in names.dns1123_subdomain(checked))
    if given != f"{text(spec, 'names', 'plural')}.{text(spec, 'group')}":
        yield invalid(field, given, 'must be spec.names.plural+"."+spec.group')


def definition_update(new: Object, old: Object) -> list[FieldError]:
    """A changed CustomResourceDefinition."""
    spec, before = sub(new, "spec"), sub(old, "spec")
    established = _established(old)
    had_schemas = all(sub(v, "schema", "openAPIV3Schema") for v in items(before, "versions"))
    allowed = allowed_before(sub(before, "conversion"), established=established)
    errors = list(_spec(spec, before, schemas_required=had_schemas, allowed=allowed))
    fixed = [("group",), ("names", "plural")]
    if established:
        fixed = [("scope",), ("names", "kind"), *fixed]
    errors += [
        invalid(".".join(("spec", *path)), text(spec, *path), "field is immutable")
        for path in fixed
        if text(spec, *path) != text(before, *path)
    ]
    errors += accepted_names(sub(new, "status", "acceptedNames"), "status.acceptedNames")
    errors += stored_versions(new)
    errors += approval_errors(new, old)
    if flag(spec, "preserveUnknownFields") and not flag(before, "preserveUnknownFields"):
        errors.append(_preserve())
    return errors


def definition_warnings(new: Object, old: Object | None) -> list[str]:
    """Formats in the schemas that mean nothing, and did not stand there before."""
    before = {form for version in items(old or {}, "spec", "versions") for form in _odd_formats(_schema(version))}
    found = [form for version in items(new, "spec", "versions") for form in _odd_formats(_schema(version))]
    return [f"unrecognized format {show(form)}" for form in dict.fromkeys(found) if form not in before]


def _odd_formats(schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    if formats.unrecognized(schema):
        yield str(schema["format"])
    parts = [schema.get(word) for word in ("items", "not", "additionalProperties")]
    parts += [part for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word) or ()]
    for part in (*parts, *(schema.get("properties") or {}).values()):
        yield from _odd_formats(part)


def definition_status(new: Object, old: Object) -> list[FieldError]:
    """A changed status."""
    return list(accepted_names(sub(new, "status", "acceptedNames"), "status.acceptedNames"))


def _established(obj: Object) -> bool:
    condition = meta.condition(items(obj, "status", "conditions"), "Established")
    return condition is not None and condition.get("status") == "True"


def _preserve() -> FieldError:
    told = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return invalid("spec.preserveUnknownFields", True, told)


def stored_versions(obj: Object) -> Iterator[FieldError]:
    """Whether status.storedVersions fits spec.versions."""
    stored = [v for v in values(obj, "status", "storedVersions") if isinstance(v, str)]
    if not stored:
        yield invalid("status.storedVersions", None, "must have at least one stored version")
        return
    versions = items(obj, "spec", "versions")
    for version in versions:
        if flag(version, "storage") and text(version, "name") not in stored:
            yield invalid("status.storedVersions", stored, f"must have the storage version {text(version, 'name')}")
    for i, name in enumerate(stored):
        if name not in [text(v, "name") for v in versions]:
            told = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            yield invalid(f"status.storedVersions[{i}]", name, told)


# -- spec ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Internal:
    """A spec as upstream's internal type has it: what all versions share is taken to the top."""

    top: Mapping[str, Any]
    versions: list[Object]


def _internal(spec: Object) -> _Internal:
    versions = [dict(version) for version in items(spec, "versions")]
    top: dict[str, Any] = {}
    for key in _SHARED:
        first = versions[0].get(key) if versions else None
        if key == "selectableFields" and versions and any(v.get("schema") for v in versions):
            continue  # they stay where the schemas are
        if first and all(version.get(key) == first for version in versions):
            top[key] = first
            for version in versions:
                del version[key]
    return _Internal(top, versions)


def _column_form(column: Object) -> Object:
    return {
        "Name": text(column, "name"), "Type": text(column, "type"), "Format": text(column, "format"),
        "Description": text(column, "description"), "Priority": column.get("priority") or 0,
        "JSONPath": text(column, "jsonPath"),
    }  # fmt: skip


def _subresources_form(given: Any) -> Any:
    if not isinstance(given, dict):
        return None
    scale = given.get("scale")
    shown = None
    if isinstance(scale, dict):
        shown = {
            "SpecReplicasPath": text(scale, "specReplicasPath"),
            "StatusReplicasPath": text(scale, "statusReplicasPath"),
            "LabelSelectorPath": scale.get("labelSelectorPath"),
        }  # fmt: skip
    return {"Status": {} if given.get("status") is not None else None, "Scale": shown}


def _version_form(version: Object) -> Object:
    schema = version.get("schema")
    inner = sub(version, "schema").get("openAPIV3Schema")
    shown = {"OpenAPIV3Schema": internal_schema(inner) if inner is not None else None} if schema is not None else None
    return {
        "Name": text(version, "name"), "Served": flag(version, "served"), "Storage": flag(version, "storage"),
        "Deprecated": flag(version, "deprecated"), "DeprecationWarning": version.get("deprecationWarning"),
        "Schema": shown, "Subresources": _subresources_form(version.get("subresources")),
        "AdditionalPrinterColumns": [_column_form(c) for c in items(version, "additionalPrinterColumns")] or None,
        "SelectableFields": [{"JSONPath": text(f, "jsonPath")} for f in items(version, "selectableFields")] or None,
    }  # fmt: skip


def _schema(version: Mapping[str, Any]) -> Object | None:
    found = sub(version, "schema").get("openAPIV3Schema")
    return found if isinstance(found, dict) else None


def _spec(spec: Object, old: Object, *, schemas_required: bool, allowed: Allowed) -> Iterator[FieldError]:
    yield from _group(text(spec, "group"))
    yield from word("spec.scope", text(spec, "scope"), _SCOPES)
    given = items(spec, "versions")
    pruned = not flag(spec, "preserveUnknownFields")
    for i, version in enumerate(given):
        if _schema(version) is None and (schemas_required or (pruned and flag(version, "served"))):
            told = "" if schemas_required else "because otherwise all fields are pruned"
            yield required(f"spec.versions[{i}].schema.openAPIV3Schema", told)
    internal = _internal(spec)
    stored = {text(v, "name"): _schema(v) for v in items(old, "versions")}
    for i, version in enumerate(internal.versions):
        at = f"spec.versions[{i}]"
        if wrong := names.dns1035_label(text(version, "name")):
            yield invalid(f"{at}.name", text(version, "name"), ",".join(wrong))
        status = (internal.top.get("subresources") or version.get("subresources") or {}).get("status") is not None
        yield from _version(version, at, status=status, before=stored.get(text(version, "name")))
    yield from _all_versions(internal)
    yield from required_names(sub(spec, "names"))
    yield from accepted_names(sub(spec, "names"), "spec.names")
    yield from _top(internal, stored, status=any(sub(v, "subresources").get("status") is not None for v in given))
    given_conversion = sub(spec, "conversion")
    if text(given_conversion, "strategy") not in ("", "None") and flag(spec, "preserveUnknownFields"):
        told = "must be None if spec.preserveUnknownFields is true"
        yield invalid("spec.conversion.strategy", text(given_conversion, "strategy"), told)
    if isinstance(spec.get("conversion"), dict):
        yield from conversion(given_conversion, allowed)


def _group(group: str) -> Iterator[FieldError]:
    if not group:
        yield required("spec.group")
    elif wrong := names.dns1123_subdomain(group):
        yield invalid("spec.group", group, ",".join(wrong))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")


def _version(version: Object, at: str, *, status: bool, before: Object | None) -> Iterator[FieldError]:
    warning = version.get("deprecationWarning")
    for told in _deprecation(warning, deprecated=flag(version, "deprecated")):
        yield invalid(f"{at}.deprecationWarning", warning, told)
    schema = _schema(version)
    if schema is not None:
        yield from schemas.errors(schema, f"{at}.schema.openAPIV3Schema", status=status, before=before)
    yield from _parts(version, schema, at, "may only be set when `version.schema.openAPIV3Schema` is not included")


def _parts(version: Mapping[str, Any], schema: Object | None, at: str, missing: str) -> Iterator[FieldError]:
    yield from scale(sub(version, "subresources", "scale"), version, f"{at}.subresources.scale")
    for i, given in enumerate(items(version, "additionalPrinterColumns")):
        yield from column(given, f"{at}.additionalPrinterColumns[{i}]")
    fields = items(version, "selectableFields")
    if fields:
        yield from selectable(fields, schema, f"{at}.selectableFields", missing)


def _top(internal: _Internal, stored: Mapping[str, Any], *, status: bool) -> Iterator[FieldError]:
    schema = _schema(internal.top)
    first = text(internal.versions[0], "name") if internal.versions else ""
    if schema is not None:
        path = "spec.validation.openAPIV3Schema"
        yield from schemas.errors(schema, path, status=status, before=stored.get(first))
    yield from _parts(internal.top, schema, "spec", "may only be set when validations.schema is included")


def _deprecation(warning: Any, *, deprecated: bool) -> Iterator[str]:
    if not isinstance(warning, str):
        return
    if not deprecated:
        yield "can only be set for deprecated versions"
        return
    if len(warning.encode()) > 256:
        yield "must be <= 256 characters long"
    if not warning:
        yield "must not be an empty string"
    at = 0
    for char in warning:
        if not char.isprintable():
            yield f"must only contain printable UTF-8 characters; non-printable character found at index {at}"
            return
        at += len(char.encode())


def _all_versions(internal: _Internal) -> Iterator[FieldError]:
    found = [text(v, "name") for v in internal.versions]
    form = [_version_form(version) for version in internal.versions] or None
    if len(set(found)) < len(found):
        yield invalid("spec.versions", form, "must contain unique version names")
    if sum(flag(version, "storage") for version in internal.versions) != 1:
        yield invalid("spec.versions", form, "must have exactly one version marked as storage version")
    if found and found[0] and (wrong := names.dns1035_label(found[0])):
        yield invalid("spec.version", found[0], ",".join(wrong))
