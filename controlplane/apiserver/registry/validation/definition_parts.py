"""Validation of parts of a CustomResourceDefinition: names, columns, scale, selectable fields, conversion, approval.

Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go, pkg/apihelpers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from controlplane.apiserver.registry.objects import sub, text, values
from controlplane.apiserver.registry.validation.webhooks import url_errors, webhook_service
from machinery import pki
from machinery.api import meta, names
from machinery.api.fielderror import FieldError, duplicate, forbidden, invalid, not_supported, required, too_many
from machinery.api.meta import Object
from machinery.api.structural import fieldpath
from machinery.errors import NavarchError

_STRATEGIES: Final = ("None", "Webhook")
_REVIEW_VERSIONS: Final = ("v1", "v1beta1")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_SELECTABLE: Final = ("string", "boolean", "integer")
_MOST_SELECTABLE: Final = 8
APPROVAL: Final = "api-approved.kubernetes.io"
_SEE: Final = "see https://github.com/kubernetes/enhancements/pull/1111"


def word(field: str, value: str, allowed: tuple[str, ...]) -> Iterator[FieldError]:
    """A value that must be one of a few words."""
    if not value:
        yield required(field)
    elif value not in allowed:
        yield not_supported(field, value, allowed)


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


def approval_errors(new: Object, old: Object | None) -> Iterator[FieldError]:
    """Whether a definition in a group of Kubernetes' own may come, or change."""
    state, reason = approval(new)
    if old is not None and approval(old)[0] == state:
        return
    field = f"metadata.annotations[{APPROVAL}]"
    if state == "Missing":
        yield required(field, reason)
    elif state == "Invalid":
        yield invalid(field, meta.annotations_of(new).get(APPROVAL, ""), reason)


def required_names(given: Object) -> Iterator[FieldError]:
    """Names that must be given."""
    for key in ("plural", "singular", "kind", "listKind"):
        if not text(given, key):
            yield required(f"spec.names.{key}")


def accepted_names(given: Object, at: str) -> Iterator[FieldError]:
    """Names that are given."""
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


def simple_path(path: str, at: str) -> list[FieldError]:
    """A JSONPath of printer columns and scales."""
    return [] if path.startswith(".") else [invalid(at, path, "must be a simple json path starting with .")]


def scale(scale: Object, version: Mapping[str, Any], at: str) -> Iterator[FieldError]:
    """The scale subresource of a version."""
    if sub(version, "subresources").get("scale") is None:
        return
    for key, under in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        path = text(scale, key)
        if not path:
            yield required(f"{at}.{key}")
        elif wrong := simple_path(path, f"{at}.{key}"):
            yield from wrong
        elif not path.startswith(f"{under}."):
            yield invalid(f"{at}.{key}", path, f"should be a json path under {under}")
    path = text(scale, "labelSelectorPath")
    if path and (wrong := simple_path(path, f"{at}.labelSelectorPath")):
        yield from wrong
    elif path and not path.startswith((".spec.", ".status.")):
        yield invalid(f"{at}.labelSelectorPath", path, "should be a json path under either .spec or .status")


def column(column: Object, at: str) -> Iterator[FieldError]:
    """One of additionalPrinterColumns."""
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
        yield from simple_path(path, f"{at}.JSONPath")


def selectable(fields: list[Object], schema: Object | None, at: str, missing: str) -> Iterator[FieldError]:
    """selectableFields; `missing` is told where there is no schema."""
    if schema is None:
        yield invalid(at, "", missing)
        return
    seen: set[str] = set()
    for i, each in enumerate(fields):
        where, path = f"{at}[{i}].jsonPath", text(each, "jsonPath")
        if not path:
            yield required(where)
            continue
        try:
            found = fieldpath.resolve(path, schema, brackets=False)
        except ValueError as exc:
            yield invalid(where, path, f"is an invalid path: {exc}")
            continue
        if found.names[0] == "metadata":
            yield invalid(where, path, "must not point to fields in metadata")
        if found.schema.get("type") not in _SELECTABLE:
            told = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats"
            )
            yield invalid(where, path, f"{told} are allowed.")
        if found.path in seen:
            yield duplicate(where, path)
        seen.add(found.path)
    if len(seen) > _MOST_SELECTABLE:
        yield too_many(at, len(seen), _MOST_SELECTABLE)


@dataclass(frozen=True)
class Allowed:
    """What a conversion may still be, because what is stored is so already."""

    bundle: bool = True
    """A caBundle that is none: until the definition is established, and where the stored one is none either."""
    versions: bool = False
    """Review versions that nobody here speaks."""


def allowed_before(before: Object, *, established: bool) -> Allowed:
    """What the conversion of a stored definition allows its next one."""
    webhook = sub(before, "webhook")
    bundle, reviews = text(sub(webhook, "clientConfig"), "caBundle"), values(webhook, "conversionReviewVersions")
    return Allowed(
        not established or bool(bundle and not _certificates(bundle)),
        bool(reviews) and not any(version in _REVIEW_VERSIONS for version in reviews),
    )


def conversion(conversion: Object, allowed: Allowed) -> Iterator[FieldError]:
    """How versions are converted."""
    strategy, webhook = text(conversion, "strategy"), sub(conversion, "webhook")
    yield from word("spec.conversion.strategy", strategy, _STRATEGIES)
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
        yield from _client(config, at, allowed)
    yield from _reviews(reviews, allowed)


def _client(config: Object, at: str, allowed: Allowed) -> Iterator[FieldError]:
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required(at, "exactly one of url or service is required")
    elif url is not None:
        yield from url_errors(f"{at}.url", str(url))
    elif isinstance(service, dict):
        yield from webhook_service(f"{at}.service", service)
    bundle = text(config, "caBundle")
    if bundle and not allowed.bundle and not _certificates(bundle):
        told = "unable to load root certificates: unable to parse bytes as PEM block"
        yield invalid(f"{at}.caBundle", bundle, told)


def _certificates(bundle: str) -> bool:
    try:
        return bool(pki.load_certificates(base64.b64decode(bundle)))
    except (ValueError, NavarchError):
        return False


def _reviews(versions: list[Any], allowed: Allowed) -> Iterator[FieldError]:
    at = "spec.conversion.conversionReviewVersions"
    if not versions:
        yield required(at)
        return
    for i, version in enumerate(versions):
        if version in versions[:i]:
            yield invalid(f"{at}[{i}]", version, "duplicate version")
            continue
        yield from (invalid(f"{at}[{i}]", version, told) for told in names.dns1035_label(str(version)))
    if not allowed.versions and not any(version in _REVIEW_VERSIONS for version in versions):
        yield invalid(at, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}")
