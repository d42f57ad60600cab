"""Kinds of the core group that hold data or bound others: ConfigMaps, Secrets, ServiceAccounts, quotas, namespaces."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import text
from controlplane.apiserver.registry.rules import prepare_create, prepare_status_update, prepare_update
from controlplane.apiserver.registry.strategy import Strategy
from machinery.api import catalogue
from machinery.api.resource import ResourceType

_PLAIN = Strategy(prepare_create=prepare_create(), prepare_update=prepare_update())

STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.CONFIGMAPS: _PLAIN,
    catalogue.SECRETS: Strategy(
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        fields={"type": lambda secret: text(secret, "type")},
    ),
    catalogue.SERVICEACCOUNTS: _PLAIN,
    catalogue.LIMITRANGES: Strategy(
        prepare_create=prepare_create(), prepare_update=prepare_update(), allow_create_on_update=True
    ),
    catalogue.RESOURCEQUOTAS: Strategy(
        prepare_create=prepare_create(status={}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(),
        has_status=True,
    ),
    catalogue.NAMESPACES: Strategy(
        prepare_create=prepare_create(status={"phase": "Active"}),
        prepare_update=prepare_update(status=True),
        prepare_status_update=prepare_status_update(),
        has_status=True,
        fields={"status.phase": lambda namespace: text(namespace, "status", "phase")},
    ),
    catalogue.LEASES: Strategy(
        prepare_create=prepare_create(),
        prepare_update=prepare_update(),
        allow_create_on_update=True,
        allow_unconditional_update=False,
    ),
}
