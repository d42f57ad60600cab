"""ResourceQuotas: what their namespaces use in fact, counted in full.

The API server charges what is created; this controller gives back what is deleted and corrects what was charged in
vain.  Resources that only quotas ask for are watched, as metadata, from the moment one asks for them.

Source: k8s.io/kubernetes/pkg/controller/resourcequota/resource_quota_controller.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers.discovery import discover
from controlplane.controllers.environment import Environment
from machinery.api.catalogue import (
    CONFIGMAPS,
    DEVICECLASSES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
)
from machinery.api.devicequota import ALONE, Surroundings
from machinery.api.meta import Object, key_of, namespace_of
from machinery.api.quantity import ZERO, Quantity, parse
from machinery.api.quotausage import in_scope, relevant, usage
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.log import get_logger
from machinery.periodic import every

log = get_logger(__name__)

ACCOUNT = "resourcequota-controller"
_WHOLE = (PODS, SERVICES, PERSISTENTVOLUMECLAIMS, RESOURCECLAIMS)
"""What is counted by more than its number."""

_NAMED = {
    "configmaps": CONFIGMAPS,
    "secrets": SECRETS,
    "replicationcontrollers": REPLICATIONCONTROLLERS,
    "resourcequotas": RESOURCEQUOTAS,
}


def hard_of(quota: Object) -> dict[str, str]:
    """spec.hard."""
    return (quota.get("spec") or {}).get("hard") or {}


def count(
    quota: Object,
    objects: Iterable[tuple[ResourceType, Iterable[Object]]],
    now: datetime | None = None,
    around: Surroundings = ALONE,
) -> dict[str, str]:
    """What of the quota's limits the objects of its namespace use."""
    names = hard_of(quota)
    used: dict[str, Quantity] = dict.fromkeys(names, ZERO)
    for resource, found in objects:
        counted = relevant(resource, names)
        if not counted:
            continue
        for obj in found:
            if not in_scope(quota, resource, obj):
                continue
            for name, amount in usage(resource, obj, now, around).items():
                if name in counted:
                    used[name] += amount
    return {name: str(amount) for name, amount in used.items()}


def plan_status(quota: Object, used: dict[str, str], countable: set[str]) -> Object:
    """The status; names that nothing can be counted for keep what the API server charged."""
    old = (quota.get("status") or {}).get("used") or {}
    kept = {name: amount if name in countable else old.get(name, amount) for name, amount in used.items()}
    return {"hard": dict(hard_of(quota)), "used": kept}


def same_amounts(a: Object, b: Object) -> bool:
    """Whether two statuses say the same, however they write it."""

    def read(status: Object) -> dict[str, dict[str, Quantity]]:
        return {part: {n: parse(q) for n, q in (status.get(part) or {}).items()} for part in ("hard", "used")}

    return read(a) == read(b)


@dataclass
class Countable:
    """The resources that quotas limit, and the informers they are counted by."""

    env: Environment
    enqueue: Callable[[str], None]
    informers: dict[ResourceType, Informer] = field(default_factory=dict)

    def watch(self, resource: ResourceType) -> None:
        """Count this resource from now on."""
        if resource in self.informers:
            return
        env = self.env
        if resource in _WHOLE or resource in env.shared_resources:
            informer = env.informer(resource)
        else:
            informer = env.metadata_informers.of(resource)
        self.informers[resource] = informer
        informer.on_change(self._on_change(resource))

    def _on_change(self, resource: ResourceType) -> Callable[[Object | None, Object | None], None]:
        quotas = self.env.informer(RESOURCEQUOTAS)

        def changed(old: Object | None, new: Object | None) -> None:
            """What appears was charged already; what goes, or comes to count for less, is given back."""
            concerned = quotas.list(namespace_of(new or old or {}))
            if not concerned:
                return
            if new is not None and (old is None or usage_shape(resource, old) == usage_shape(resource, new)):
                return
            for quota in concerned:
                if relevant(resource, hard_of(quota)):
                    self.enqueue(key_of(quota))

        return changed


def usage_shape(resource: ResourceType, obj: Object) -> object:
    """What of an object a quota can see change."""
    if resource not in _WHOLE:
        return None
    return usage(resource, obj)


@dataclass(frozen=True)
class QuotaReconciler:
    """Counts for one quota."""

    quotas: Informer
    countable: Countable
    around: Surroundings
    client: Client
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """Count everything that the quota limits and write the status."""
        quota = self.quotas.get(key)
        if quota is None:
            return None
        await self._prepare(quota)
        namespace = namespace_of(quota)
        informers = self.countable.informers
        names = hard_of(quota)
        objects = [(resource, informer.list(namespace)) for resource, informer in informers.items()]
        used = count(quota, objects, self.clock.now(), self.around)
        known = {name for resource in informers for name in relevant(resource, names)}
        status = plan_status(quota, used, known)
        if not same_amounts(status, quota.get("status") or {}):
            await self.client.update(RESOURCEQUOTAS, {**quota, "status": status}, subresource="status")
        return None

    async def _prepare(self, quota: Object) -> None:
        """Watch what this quota limits and nobody watches yet."""
        missing = [
            name
            for name in hard_of(quota)
            if not any(relevant(resource, [name]) for resource in self.countable.informers)
        ]
        named = [_NAMED[name] for name in missing if name in _NAMED]
        counted = {name.removeprefix("count/") for name in missing if name.startswith("count/")}
        if counted:
            found = (await discover(self.client)).resources
            named += [r for r in found if r.namespaced and r.group_resource in counted and "watch" in r.verbs]
        for resource in named:
            self.countable.watch(resource)
            await self.countable.informers[resource].synced()


def build(env: Environment) -> list[Controller]:
    """The controller of ResourceQuotas."""
    quotas = env.informer(RESOURCEQUOTAS)
    countable = Countable(env, lambda key: controller.enqueue(key))
    for resource in (*_WHOLE, RESOURCEQUOTAS):
        countable.watch(resource)
    # The manager itself discovers what can be counted: every account may.
    classes, pods = env.informer(DEVICECLASSES), env.informer(PODS)
    around = Surroundings(classes.get, lambda namespace, name: pods.get(f"{namespace}/{name}"))
    reconciler = QuotaReconciler(quotas, countable, around, env.client_for(ACCOUNT), env.clock)
    workers = env.options.concurrent("resource-quota")
    controller = Controller("resourcequota_primary", reconciler.reconcile, workers=workers)

    def quota_changed(old: Object | None, new: Object | None) -> None:
        """Only what is asked for matters: usage is what the API server, and we, write all the time."""
        if new is not None and (old is None or hard_of(old) != hard_of(new) or not _has_status(new)):
            controller.enqueue(key_of(new))

    async def recount() -> None:
        for quota in quotas.list():
            controller.enqueue(key_of(quota))

    quotas.on_change(quota_changed)
    resync = every("resourcequota_resync", float(env.options["resource-quota-sync-period"]), recount)
    return [controller, resync]


def _has_status(quota: Object) -> bool:
    return (quota.get("status") or {}).get("hard") == hard_of(quota)
