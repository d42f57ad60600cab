"""ClusterRoles with an aggregationRule have the rules of all ClusterRoles that it selects.

Source: k8s.io/kubernetes/pkg/controller/clusterroleaggregation; RBAC, "Aggregated ClusterRoles".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.controllers.environment import Environment
from machinery.api.catalogue import CLUSTERROLES
from machinery.api.labels import Selector, from_selector
from machinery.api.meta import Object, labels_of, name_of
from machinery.cache.informer import Informer
from machinery.client.rest import APPLY, Client
from machinery.controller import Controller

ACCOUNT = "clusterrole-aggregation-controller"


def selectors_of(role: Object) -> list[Selector]:
    """The selectors of the aggregation rule."""
    found = []
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        try:
            found.append(from_selector(selector))
        except ValueError:
            continue  # can't be stored; one that is all the same selects nothing
    return found


def aggregated_rules(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules that `role` should have: those of the roles selected, by selector and name, each once."""
    everything = sorted(roles, key=name_of)
    rules: list[Object] = []
    for selector in selectors_of(role):
        for other in everything:
            if name_of(other) != name_of(role) and selector.matches(labels_of(other)):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


@dataclass(frozen=True)
class RoleAggregator:
    """Brings one aggregated ClusterRole up to date."""

    roles: Informer
    client: Client

    async def reconcile(self, key: str) -> float | None:
        """Write the rules, if they changed."""
        role = self.roles.get(key)
        if role is None or not role.get("aggregationRule"):
            return None
        rules = aggregated_rules(role, self.roles.list())
        if rules == (role.get("rules") or []):
            return None
        applied = {
            "apiVersion": CLUSTERROLES.api_version,
            "kind": CLUSTERROLES.kind,
            "metadata": {"name": key},
            "rules": rules,
        }
        query = {"fieldManager": ACCOUNT, "force": "true"}
        await self.client.patch(CLUSTERROLES, key, applied, content_type=APPLY, query=query)
        return None


def build(env: Environment) -> list[Controller]:
    """The aggregator of ClusterRoles."""
    roles = env.informer(CLUSTERROLES)
    aggregator = RoleAggregator(roles, env.client_for(ACCOUNT))
    controller = Controller("cluster_role_aggregator", aggregator.reconcile, workers=5)

    def role_changed(old: Object | None, new: Object | None) -> None:
        for role in roles.list():
            if role.get("aggregationRule"):
                controller.enqueue(name_of(role))

    roles.on_change(role_changed)
    return [controller]
