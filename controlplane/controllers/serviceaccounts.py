"""Every active namespace has a ServiceAccount called default.

Source: k8s.io/kubernetes/pkg/controller/serviceaccount/serviceaccounts_controller.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.controllers.environment import Environment
from controlplane.controllers.podcontrol import namespace_terminates
from machinery.api.catalogue import NAMESPACES, SERVICEACCOUNTS
from machinery.api.meta import Object, name_of, namespace_of
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.controller import Controller
from machinery.errors import AlreadyExists, StatusError

WANTED = ("default",)
ACCOUNT = "service-account-controller"


def is_active_namespace(namespace: Object) -> bool:
    """Whether things may still be made in the namespace."""
    return str((namespace.get("status") or {}).get("phase") or "Active") == "Active"


@dataclass(frozen=True)
class ServiceAccountReconciler:
    """Makes what is missing in one namespace."""

    namespaces: Informer
    accounts: Informer
    client: Client

    async def reconcile(self, key: str) -> float | None:
        """Create the namespace's ServiceAccounts that do not exist."""
        namespace = self.namespaces.get(key)
        if namespace is None or not is_active_namespace(namespace):
            return None
        for name in WANTED:
            if self.accounts.get(f"{key}/{name}") is None:
                await self._create(name, key)
        return None

    async def _create(self, name: str, namespace: str) -> None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
        try:
            await self.client.create(SERVICEACCOUNTS, account)
        except AlreadyExists:
            return
        except StatusError as exc:
            if not namespace_terminates(exc):
                raise


def build(env: Environment) -> list[Controller]:
    """The controller of default ServiceAccounts."""
    namespaces, accounts = env.informer(NAMESPACES), env.informer(SERVICEACCOUNTS)
    reconciler = ServiceAccountReconciler(namespaces, accounts, env.client_for(ACCOUNT))
    controller = Controller("serviceaccount", reconciler.reconcile, workers=1)

    def account_changed(old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            controller.enqueue(namespace_of(old))

    namespaces.on_change(lambda old, new: controller.enqueue(name_of(new)) if new is not None else None)
    accounts.on_change(account_changed)
    return [controller]
