"""A CustomResourceDefinition as resources that the handlers can serve.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go, pkg/registry/customresource/strategy.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.customresources import embedded, scale
from controlplane.apiserver.customresources.conversion import CustomConversion
from controlplane.apiserver.customresources.printing import columns_of
from controlplane.apiserver.handlers.metadata import STANDARD_FINALIZERS
from controlplane.apiserver.registry.rules import METADATA_KEPT_BY_STATUS, keep_generation, keep_metadata
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.resources import ScalePaths, Served
from machinery.api import jsonpath, names, versions
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object
from machinery.api.resource import SCALE, STATUS, ResourceType, Subresource
from machinery.api.structural.custom import CustomSchema, compile_schema, has_defaults

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
"""In the order in which upstream's discovery tells them."""

_METADATA = ("apiVersion", "kind", "metadata")


def served_of(definition: Object, client: WebhookClient) -> list[Served]:
    """The resources of an established definition, one for each version that is served; `client` calls its webhook."""
    given = definition["spec"]["versions"]
    stored = next(version for version in given if version.get("storage"))
    stored_type = resource_type(definition, stored)
    stored_schema = _schema(definition, stored)
    stored_strategy = _strategy(stored, stored_schema)
    prefix = f"{stored_type.group}/{stored_type.plural}/"
    made = []
    for version in given:
        if not version.get("served"):
            continue
        kind = resource_type(definition, version)
        same = version is stored
        schema = stored_schema if same else _schema(definition, version)
        conversion = _conversion(definition, CustomConversion(kind, schema, stored_type, None, client))
        strategy = stored_strategy if same else _strategy(version, schema)
        paths = _scale_paths((version.get("subresources") or {}).get("scale"))
        told = _deprecation(definition, version)
        made.append(Served(kind, strategy, schema, prefix, stored_type, strategy, None, conversion, paths, told))
    return made


def resource_type(definition: Object, version: Object) -> ResourceType:
    """The resource type of one version, under the names it was given."""
    spec, names = definition["spec"], definition["status"]["acceptedNames"]
    subresources: list[Subresource] = []
    given = version.get("subresources") or {}
    if given.get("status") is not None:
        subresources.append(STATUS)
    if given.get("scale") is not None:
        subresources.append(SCALE)
    return ResourceType(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        singular=names.get("singular", ""),
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=VERBS,
        subresources=tuple(subresources),
    )


def _schema(definition: Object, version: Object) -> CustomSchema:
    spec = definition["spec"]
    given = (version.get("schema") or {}).get("openAPIV3Schema")
    return compile_schema(spec["group"], version["name"], spec["names"]["kind"], given)


def _conversion(definition: Object, conversion: CustomConversion) -> CustomConversion | None:
    """How objects are shown in a version; None if they are shown as they are stored: in the only version there has ever
    been, without defaults."""
    spec = definition["spec"]
    versions = {version["name"] for version in spec["versions"]}
    versions |= set((definition.get("status") or {}).get("storedVersions") or ())
    if len(versions) == 1 and not has_defaults(conversion.schema.definition):
        return None
    given = spec.get("conversion") or {}
    if given.get("strategy") == "Webhook":
        conversion.webhook = given.get("webhook") or {}
    return conversion


def _strategy(version: Object, schema: CustomSchema) -> Strategy:
    subresources = version.get("subresources") or {}
    rules = _Rules(schema, subresources.get("status") is not None, subresources.get("scale"))
    return Strategy(
        default=schema.default,
        prepare_create=rules.prepare_create,
        prepare_update=rules.prepare_update,
        prepare_status_update=rules.prepare_status_update,
        validate=rules.validate,
        validate_update=rules.validate_update,
        validate_status_update=rules.validate_status_update,
        warnings=rules.warnings,
        has_status=rules.has_status,
        columns=columns_of(version),
        fields={path: _field(path) for path in _selectable(version)},
        allow_unconditional_update=False,
    )


def _scale_paths(scale: Object | None) -> ScalePaths | None:
    if scale is None:
        return None
    return ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or "")


def _deprecation(definition: Object, version: Object) -> str:
    """What is told of a deprecated version: its own words, or which version to use instead."""
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning"):
        return str(version["deprecationWarning"])
    group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
    told = f"{group}/{version['name']} {kind} is deprecated"
    better = [
        name
        for name in versions.by_priority(
            v["name"] for v in definition["spec"]["versions"] if v.get("served") and not v.get("deprecated")
        )
        if versions.rank(name) < versions.rank(version["name"])
    ]
    return f"{told}; use {group}/{better[0]} {kind}" if better else told


def _selectable(version: Object) -> list[str]:
    return [given["jsonPath"].removeprefix(".") for given in version.get("selectableFields") or ()]


def _field(path: str) -> Callable[[Object], str]:
    parsed = jsonpath.parse(f".{path}")

    def value(obj: Object) -> str:
        found = parsed.find(obj)
        if not found or found[0] is None:
            return ""
        only = found[0]
        if isinstance(only, bool):
            return str(only).lower()
        return str(only)

    return value


@dataclass(frozen=True)
class _Rules:
    """What writes of one version go through."""

    schema: CustomSchema
    has_status: bool
    scale: Mapping[str, Any] | None

    def prepare_create(self, obj: Object, context: Context) -> None:
        """A new object has no status yet, and its first generation."""
        if self.has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def prepare_update(self, new: Object, old: Object, context: Context) -> None:
        """The status stays; any other change outside metadata is a new generation."""
        if self.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        keep_generation(new, old)
        left_out = (*_METADATA, "status") if self.has_status else _METADATA
        if _without(new, left_out) != _without(old, left_out):
            new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1

    def prepare_status_update(self, new: Object, old: Object, context: Context) -> None:
        """Only the status changes."""
        status = new.get("status")
        for key in [key for key in new if key not in _METADATA]:
            del new[key]
        new |= {key: value for key, value in old.items() if key not in (*_METADATA, "status")}
        if status is not None:
            new["status"] = status
        keep_generation(new, old)
        keep_metadata(new, old, METADATA_KEPT_BY_STATUS)

    def validate(self, obj: Object) -> list[FieldError]:
        """Errors of a new object."""
        errors = [*self.schema.shape_errors(obj), *scale.errors(self.scale, obj)]
        errors += embedded.errors(self.schema.definition, obj)
        errors += self.schema.duplicates(obj)
        return errors + self.schema.rule_errors(errors, obj)

    def validate_update(self, new: Object, old: Object) -> list[FieldError]:
        """Errors of a changed object; what was wrong before and did not change is let be, or borne."""
        errors = [*self.schema.shape_errors(new, old), *scale.errors(self.scale, new)]
        errors += embedded.errors(self.schema.definition, new)
        errors += self.schema.duplicates(new, old)
        return errors + self.schema.rule_errors(errors, new, old)

    def validate_status_update(self, new: Object, old: Object) -> list[FieldError]:
        """Errors of a changed status; of the rest, what rules say of it."""
        errors = [*self.schema.status_errors(new, old), *scale.errors(self.scale, new, spec=False)]
        errors += self.schema.duplicates(new, old)
        return errors + self.schema.rule_errors(errors, new, old)

    def warnings(self, new: Object, old: Object | None) -> list[str]:
        """Of finalizers that come and that others may name as well."""
        before = set(((old or {}).get("metadata") or {}).get("finalizers") or ())
        added = sorted(set(new["metadata"].get("finalizers") or ()) - before)
        at = "metadata.finalizers"
        told = [f'{at}: "{each}": {wrong}' for each in added for wrong in names.qualified_name(each)]
        return told + [
            f'{at}: "{each}": prefer a domain-qualified finalizer name to avoid accidental conflicts with other '
            "finalizer writers"
            for each in added
            if "/" not in each and each not in STANDARD_FINALIZERS
        ]


def _without(obj: Object, keys: tuple[str, ...]) -> Object:
    return {key: value for key, value in obj.items() if key not in keys}
