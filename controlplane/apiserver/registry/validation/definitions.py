"""Validation of CustomResourceDefinitions.

Messages name fields as upstream's internal type does, where what all versions have in common stands once at the top:
spec.validation, spec.subresources, spec.additionalPrinterColumns, spec.selectableFields, spec.version.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go, pkg/apihelpers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from controlplane.apiserver.registry.objects import flag, items, sub, text, values
from controlplane.apiserver.registry.validation.admission import url_errors, webhook_service
from machinery import pki
from machinery.api import meta, names
from machinery.api.fielderror import FieldError, duplicate, forbidden, invalid, not_supported, required, too_many
from machinery.api.meta import Object
from machinery.api.structural import definition as schemas
from machinery.api.structural import fieldpath
from machinery.api.structural.forms import internal_schema
from machinery.errors import NavarchError

_SCOPES: Final = ("Cluster", "Namespaced")
_STRATEGIES: Final = ("None", "Webhook")
_REVIEW_VERSIONS: Final = ("v1", "v1beta1")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SELECTABLE: Final = ("string", "boolean", "integer")
_MOST_SELECTABLE: Final = 8
APPROVAL: Final = "api-approved.kubernetes.io"
_SEE: Final = "see https://github.com/kubernetes/enhancements/pull/1111"
_SHARED: Final = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def definition(obj: Object) -> list[FieldError]:
    """A new CustomResourceDefinition."""
    spec = sub(obj, "spec")
    errors: list[FieldError] = []
    if meta.name_of(obj) != f"{text(spec, 'names', 'plural')}.{text(spec, 'group')}":
        errors.append(invalid("metadata.name", meta.name_of(obj), 'must be spec.names.plural+"."+spec.group'))
    errors += _spec(spec, {}, schemas_required=True, checked_bundle=False)
    errors += _names(sub(obj, "status", "acceptedNames"), "status.acceptedNames")
    errors += stored_versions(obj)
    errors += _approval(obj, None)
    if flag(spec, "preserveUnknownFields"):
        errors.append(_preserve())
    return errors


def definition_update(new: Object, old: Object) -> list[FieldError]:
    """A changed CustomResourceDefinition."""
    spec, before = sub(new, "spec"), sub(old, "spec")
    established = _established(old)
    had_schemas = all(sub(v, "schema", "openAPIV3Schema") for v in items(before, "versions"))
    errors = list(_spec(spec, before, schemas_required=had_schemas, checked_bundle=established))
    fixed = [("group",), ("names", "plural")]
    if established:
        fixed = [("scope",), ("names", "kind"), *fixed]
    errors += [
        invalid(".".join(("spec", *path)), text(spec, *path), "field is immutable")
        for path in fixed
        if text(spec, *path) != text(before, *path)
    ]
    errors += _names(sub(new, "status", "acceptedNames"), "status.acceptedNames")
    errors += stored_versions(new)
    errors += _approval(new, old)
    if flag(spec, "preserveUnknownFields") and not flag(before, "preserveUnknownFields"):
        errors.append(_preserve())
    return errors


def definition_status(new: Object, old: Object) -> list[FieldError]:
    """A changed status."""
    return list(_names(sub(new, "status", "acceptedNames"), "status.acceptedNames"))


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


# -- the API's own groups --------------------------------------------------------------------------------------------


def approval(obj: Object) -> tuple[str, str]:
    """Whether a definition in a group of Kubernetes' own is approved (Missing, Invalid, Unapproved, Approved), and the
    words for it; "" for other groups."""
    group = text(obj, "spec", "group")
    if not (group in ("k8s.io", "kubernetes.io") or group.endswith((".k8s.io", ".kubernetes.io"))):
        return "", ""
    found = meta.annotations_of(obj).get(APPROVAL)
    if found is None:
        return "Missing", f'protected groups must have approval annotation "{APPROVAL}", {_SEE}'
    if found.startswith("unapproved"):
        return "Unapproved", f'not approved: "{found}"'
    try:
        parts = urlsplit(found)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme and parts.netloc:
        return "Approved", f"approved in {found}"
    told = f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with'
    return "Invalid", f'{told} "unapproved", {_SEE}'


def _approval(new: Object, old: Object | None) -> Iterator[FieldError]:
    state, reason = approval(new)
    if old is not None and approval(old)[0] == state:
        return
    field = f"metadata.annotations[{APPROVAL}]"
    if state == "Missing":
        yield required(field, reason)
    elif state == "Invalid":
        yield invalid(field, meta.annotations_of(new).get(APPROVAL, ""), reason)


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


def _spec(spec: Object, old: Object, *, schemas_required: bool, checked_bundle: bool) -> Iterator[FieldError]:
    yield from _group(text(spec, "group"))
    yield from _word("spec.scope", text(spec, "scope"), _SCOPES)
    given = items(spec, "versions")
    if schemas_required:
        for i, version in enumerate(given):
            if _schema(version) is None:
                yield required(f"spec.versions[{i}].schema.openAPIV3Schema")
    internal = _internal(spec)
    stored = {text(v, "name"): _schema(v) for v in items(old, "versions")}
    for i, version in enumerate(internal.versions):
        at = f"spec.versions[{i}]"
        if wrong := names.dns1035_label(text(version, "name")):
            yield invalid(f"{at}.name", text(version, "name"), ",".join(wrong))
        status = (internal.top.get("subresources") or version.get("subresources") or {}).get("status") is not None
        yield from _version(version, at, status=status, before=stored.get(text(version, "name")))
    yield from _all_versions(internal)
    yield from _required_names(sub(spec, "names"))
    yield from _names(sub(spec, "names"), "spec.names")
    yield from _top(internal, stored, status=any(sub(v, "subresources").get("status") is not None for v in given))
    conversion = sub(spec, "conversion")
    if text(conversion, "strategy") not in ("", "None") and flag(spec, "preserveUnknownFields"):
        told = "must be None if spec.preserveUnknownFields is true"
        yield invalid("spec.conversion.strategy", text(conversion, "strategy"), told)
    if isinstance(spec.get("conversion"), dict):
        yield from _conversion(conversion, checked_bundle=checked_bundle)


def _group(group: str) -> Iterator[FieldError]:
    if not group:
        yield required("spec.group")
    elif wrong := names.dns1123_subdomain(group):
        yield invalid("spec.group", group, ",".join(wrong))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")


def _word(field: str, value: str, allowed: tuple[str, ...]) -> Iterator[FieldError]:
    if not value:
        yield required(field)
    elif value not in allowed:
        yield not_supported(field, value, allowed)


def _version(version: Object, at: str, *, status: bool, before: Object | None) -> Iterator[FieldError]:
    warning = version.get("deprecationWarning")
    for told in _deprecation(warning, deprecated=flag(version, "deprecated")):
        yield invalid(f"{at}.deprecationWarning", warning, told)
    schema = _schema(version)
    if schema is not None:
        yield from schemas.errors(schema, f"{at}.schema.openAPIV3Schema", status=status, before=before)
    yield from _parts(version, schema, at)


def _parts(version: Mapping[str, Any], schema: Object | None, at: str) -> Iterator[FieldError]:
    yield from _scale(sub(version, "subresources", "scale"), version, f"{at}.subresources.scale")
    for i, column in enumerate(items(version, "additionalPrinterColumns")):
        yield from _column(column, f"{at}.additionalPrinterColumns[{i}]")
    fields = items(version, "selectableFields")
    if fields:
        yield from _selectable(fields, schema, f"{at}.selectableFields")


def _top(internal: _Internal, stored: Mapping[str, Any], *, status: bool) -> Iterator[FieldError]:
    schema = _schema(internal.top)
    first = text(internal.versions[0], "name") if internal.versions else ""
    if schema is not None:
        path = "spec.validation.openAPIV3Schema"
        yield from schemas.errors(schema, path, status=status, before=stored.get(first))
    if schema is None and internal.versions:
        versioned = [v for v in internal.versions if _schema(v) is not None]
        schema = _schema(versioned[0]) if versioned else None
    yield from _parts(internal.top, schema, "spec")


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


def _required_names(given: Object) -> Iterator[FieldError]:
    for key in ("plural", "singular", "kind", "listKind"):
        if not text(given, key):
            yield required(f"spec.names.{key}")


def _names(given: Object, at: str) -> Iterator[FieldError]:
    for key in ("plural", "singular"):
        value = text(given, key)
        if value and (wrong := names.dns1035_label(value)):
            yield invalid(f"{at}.{key}", value, ",".join(wrong))
    for key in ("kind", "listKind"):
        value = text(given, key)
        if value and (wrong := names.dns1035_label(value.lower())):
            told = "may have mixed case, but should otherwise match: " + ",".join(wrong)
            yield invalid(f"{at}.{key}", value, told)
    for key in ("shortNames", "categories"):
        for i, value in enumerate(values(given, key)):
            if isinstance(value, str) and (wrong := names.dns1035_label(value)):
                yield invalid(f"{at}.{key}[{i}]", value, ",".join(wrong))
    if text(given, "kind") and text(given, "kind") == text(given, "listKind"):
        yield invalid(f"{at}.listKind", text(given, "listKind"), "kind and listKind may not be the same")


def _path(path: str, at: str) -> list[FieldError]:
    return [] if path.startswith(".") else [invalid(at, path, "must be a simple json path starting with .")]


def _scale(scale: Object, version: Mapping[str, Any], at: str) -> Iterator[FieldError]:
    if sub(version, "subresources").get("scale") is None:
        return
    for key, under in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        path = text(scale, key)
        if not path:
            yield required(f"{at}.{key}")
        elif wrong := _path(path, f"{at}.{key}"):
            yield from wrong
        elif not path.startswith(f"{under}."):
            yield invalid(f"{at}.{key}", path, f"should be a json path under {under}")
    path = text(scale, "labelSelectorPath")
    if path and (wrong := _path(path, f"{at}.labelSelectorPath")):
        yield from wrong
    elif path and not path.startswith((".spec.", ".status.")):
        yield invalid(f"{at}.labelSelectorPath", path, "should be a json path under either .spec or .status")


def _column(column: Object, at: str) -> Iterator[FieldError]:
    if not text(column, "name"):
        yield required(f"{at}.name")
    kind, form, path = text(column, "type"), text(column, "format"), text(column, "jsonPath")
    told = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        yield required(f"{at}.type", told)
    elif kind not in _COLUMN_TYPES:
        yield invalid(f"{at}.type", kind, told)
    if form and form not in _COLUMN_FORMATS:
        yield invalid(f"{at}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not path:
        yield required(f"{at}.JSONPath")
    else:
        yield from _path(path, f"{at}.JSONPath")


def _selectable(fields: list[Object], schema: Object | None, at: str) -> Iterator[FieldError]:
    if schema is None:
        told = "selectableFields may only be set when validations.schema is included"
        yield invalid(at, "", told)
        return
    seen: set[tuple[str, ...]] = set()
    for i, each in enumerate(fields):
        where, path = f"{at}[{i}].jsonPath", text(each, "jsonPath")
        if not path:
            yield required(where)
            continue
        try:
            parts, found = fieldpath.resolve(path, schema, arrays=False)
        except ValueError as exc:
            yield invalid(where, path, f"is an invalid path: {exc}")
            continue
        if parts[0] == "metadata":
            yield invalid(where, path, "must not point to fields in metadata")
        if found.get("type") not in _SELECTABLE:
            told = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats"
            )
            yield invalid(where, path, f"{told} are allowed.")
        if tuple(parts) in seen:
            yield duplicate(where, path)
        seen.add(tuple(parts))
    if len(seen) > _MOST_SELECTABLE:
        yield too_many(at, len(seen), _MOST_SELECTABLE)


def _conversion(conversion: Object, *, checked_bundle: bool) -> Iterator[FieldError]:
    strategy, webhook = text(conversion, "strategy"), sub(conversion, "webhook")
    yield from _word("spec.conversion.strategy", strategy, _STRATEGIES)
    config, reviews = webhook.get("clientConfig"), values(webhook, "conversionReviewVersions")
    if strategy != "Webhook":
        told = "should not be set when strategy is not set to Webhook"
        if config is not None:
            yield forbidden("spec.conversion.webhookClientConfig", told)
        if reviews:
            yield forbidden("spec.conversion.conversionReviewVersions", told)
        return
    at = "spec.conversion.webhookClientConfig"
    if not isinstance(config, dict):
        yield required(at, "required when strategy is set to Webhook")
    else:
        yield from _client(config, at, checked_bundle=checked_bundle)
    yield from _reviews(reviews)


def _client(config: Object, at: str, *, checked_bundle: bool) -> Iterator[FieldError]:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required(at, "exactly one of url or service is required")
    elif url is not None:
        yield from url_errors(f"{at}.url", str(url))
    elif isinstance(service, dict):
        yield from webhook_service(f"{at}.service", service)
    bundle = text(config, "caBundle")
    if bundle and checked_bundle and not _certificates(bundle):
        told = "unable to load root certificates: unable to parse bytes as PEM block"
        yield invalid(f"{at}.caBundle", bundle, told)


def _certificates(bundle: str) -> bool:
    try:
        return bool(pki.load_certificates(base64.b64decode(bundle)))
    except (ValueError, NavarchError):
        return False


def _reviews(versions: list[Any]) -> Iterator[FieldError]:
    at = "spec.conversion.conversionReviewVersions"
    if not versions:
        yield required(at)
        return
    for i, version in enumerate(versions):
        if version in versions[:i]:
            yield invalid(f"{at}[{i}]", version, "duplicate version")
            continue
        yield from (invalid(f"{at}[{i}]", version, told) for told in names.dns1035_label(str(version)))
    if not any(version in _REVIEW_VERSIONS for version in versions):
        yield invalid(at, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")
