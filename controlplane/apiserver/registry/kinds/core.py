"""Kinds of the core group that hold data or bound others: ConfigMaps, Secrets, ServiceAccounts, quotas, namespaces."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.registry.defaults.others import (
    default_limit_range,
    default_namespace,
    default_quota,
    default_secret,
)
from controlplane.apiserver.registry.objects import child, items, set_or_drop, sub, text, values
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import configuration as rules
from controlplane.apiserver.registry.validation import endpoints, quotas
from controlplane.apiserver.registry.warnings import others as warnings
from controlplane.apiserver.registry.warnings import secrets
from machinery.api import catalogue, names
from machinery.api.meta import Object, random_uuid
from machinery.api.resource import ResourceType

_PLAIN = Strategy(prepare_create=prepare_create(), prepare_update=prepare_update())


def _clean_secrets_of_new(account: Object, context: Context) -> None:
    _PLAIN.prepare_create(account, context)
    _keep_names_of_secrets(account)


def _clean_secrets(new: Object, old: Object, context: Context) -> None:
    _PLAIN.prepare_update(new, old, context)
    _keep_names_of_secrets(new)


def _keep_names_of_secrets(account: Object) -> None:
    if items(account, "secrets"):
        account["secrets"] = [{"name": s["name"]} if s.get("name") else {} for s in items(account, "secrets")]


def _create_limit_range(limit_range: Object, context: Context) -> None:
    _PLAIN.prepare_create(limit_range, context)
    metadata = child(limit_range, "metadata")
    if not metadata.get("name"):
        metadata["name"] = random_uuid()  # the one kind that needs no name


def _create_namespace(namespace: Object, context: Context) -> None:
    prepare_create(status={"phase": "Active"})(namespace, context)
    default_namespace(namespace)  # once more: a generated name is known only now
    finalizers = values(namespace, "spec", "finalizers")
    if "kubernetes" not in finalizers:
        child(namespace, "spec")["finalizers"] = [*finalizers, "kubernetes"]


def _update_namespace(new: Object, old: Object, context: Context) -> None:
    prepare_update(status=True)(new, old, context)
    set_or_drop(child(new, "spec"), "finalizers", sub(old, "spec"))


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.CONFIGMAPS: replace(_PLAIN, validate=rules.config_map, validate_update=rules.config_map_update),
    catalogue.SECRETS: Strategy(
        default=default_secret,
        warnings=secrets.secret,
        validate=rules.secret,
        validate_update=rules.secret_update,
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        fields={"type": lambda secret: text(secret, "type")},
    ),
    catalogue.SERVICEACCOUNTS: replace(
        _PLAIN,
        warnings=warnings.service_account,
        prepare_create=_clean_secrets_of_new,
        prepare_update=_clean_secrets,
    ),
    catalogue.LIMITRANGES: Strategy(
        default=default_limit_range,
        validate=quotas.limit_range,
        validate_update=lambda new, old: quotas.limit_range(new),
        prepare_create=_create_limit_range,
        prepare_update=prepare_update(),
        allow_create_on_update=True,
    ),
    catalogue.RESOURCEQUOTAS: Strategy(
        default=default_quota,
        validate=quotas.quota,
        validate_update=quotas.quota_update,
        validate_status_update=quotas.quota_status,
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.NAMESPACES: Strategy(
        default=default_namespace,
        validate=rules.namespace,
        validate_status_update=rules.namespace_status,
        validate_name=names.dns1123_label,
        prepare_create=_create_namespace,
        prepare_update=_update_namespace,
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields={"status.phase": lambda namespace: text(namespace, "status", "phase")},
    ),
    catalogue.LEASES: Strategy(
        validate=endpoints.lease,
        validate_update=lambda new, old: endpoints.lease(new),
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        allow_create_on_update=True,
        allow_unconditional_update=False,
    ),
}
