"""pods/eviction: deleting a pod as far as disruption budgets allow.

Source: pkg/registry/core/pod/storage/eviction.go; KEP-85, "Graduate PodDisruptionBudget".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers import decoding, encoding, metadata, negotiated, options, virtual
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.binding import SUCCESS
from controlplane.apiserver.handlers.deletion import check_preconditions, delete_object
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import not_found
from controlplane.apiserver.handlers.options import DeleteOptions, write_options
from controlplane.apiserver.handlers.update import change_object, rules_of
from controlplane.apiserver.handlers.writer import Writer, key_of, options_object
from controlplane.apiserver.loopback_user import MANAGER, USER
from controlplane.apiserver.request import RequestInfo
from machinery.api import labels
from machinery.api.catalogue import PODDISRUPTIONBUDGETS, PODS
from machinery.api.meta import Object, condition, labels_of, set_condition
from machinery.errors import BadRequest, Conflict, Forbidden, StatusError, TooManyRequests

_RETRIES = 20
_MOST_DISRUPTED = 2000  # evictions that the disruption controller has not seen yet
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(api: Api, exchange: Exchange) -> Answer:
    """POST to pods/NAME/eviction."""
    info = exchange.info
    form = negotiated.form(exchange, shapes=False)
    write = write_options(exchange.query, "CreateOptions")
    body = await exchange.body()
    expected = virtual.expected(exchange.served, exchange)
    eviction = decoding.decode(exchange, body, expected, api.resources, write.validation)
    if eviction["metadata"].get("name") != info.name:
        raise BadRequest("name in URL does not match name in Eviction object")
    metadata.match_namespace(eviction["metadata"], info.namespace, namespaced=True)
    asked = options.checked_delete_options(eviction.get("deleteOptions") or {})
    asked = replace(asked, dry_run=asked.dry_run or write.dry_run)
    operation = Operation(
        "CREATE",
        PODS,
        "eviction",
        info.namespace,
        info.name,
        exchange.user,
        eviction,
        None,
        options_object("CreateOptions", write),
        asked.dry_run,
        exchange.warnings,
        exchange.audit_annotations,
    )
    await api.admission.admit(operation)
    await api.admission.validate(operation)
    await _Eviction(api, info, asked).run()
    return encoding.encode(orjson.dumps(SUCCESS), form, 201)


class _Eviction:
    def __init__(self, api: Api, info: RequestInfo, asked: DeleteOptions) -> None:
        self.api, self.asked = api, asked
        self.namespace, self.name = info.namespace, info.name
        self.pods = api.resources.of(PODS)

    async def run(self) -> None:
        for _ in range(_RETRIES):
            pod = await self._pod()
            if not _needs_no_budget(pod):
                await self._guarded(pod)
                return
            try:
                pending = (pod.get("status") or {}).get("phase") == "Pending"
                await self._delete(self._at(pod) if pending else self.asked)
                return
            except Conflict:
                if self.asked.resource_version is not None:
                    raise
        raise TooManyRequests(_REFUSED, details={"retryAfterSeconds": 10})

    async def _pod(self) -> Object:
        found = await self.api.objects.fresh(self.pods.prefix, key_of(self.pods, self.namespace, self.name))
        if found is None:
            raise not_found(PODS, self.name)
        return found.object

    def _at(self, pod: Object) -> DeleteOptions:
        """The options, bound to this state of the pod unless the client has bound them to another."""
        if self.asked.resource_version is not None:
            return self.asked
        return replace(self.asked, resource_version=pod["metadata"]["resourceVersion"])

    async def _guarded(self, pod: Object) -> None:
        budgets = self._budgets(pod)
        if len(budgets) > 1:
            told = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise StatusError.plain(told)
        if not budgets:
            await self._delete(self.asked)
            return
        budget = budgets[0]
        if not _is_ready(pod) and _lets_unhealthy_go(budget):
            try:
                await self._delete(self._at(pod))
            except Conflict as exc:
                if self.asked.resource_version is not None:
                    raise
                raise _still_processed(budget) from exc
            return
        await self._decrement(budget)
        await self._delete(self.asked)

    def _budgets(self, pod: Object) -> Sequence[Object]:
        found = []
        for budget in self.api.reader.list(PODDISRUPTIONBUDGETS, self.namespace):
            selector = (budget.get("spec") or {}).get("selector")
            try:
                chosen = labels.from_selector(selector)
            except ValueError:
                continue
            if chosen.matches(labels_of(pod)):
                found.append(budget)
        return found

    async def _decrement(self, budget: Object) -> None:
        """Take one of the disruptions that the budget allows. Raises TooManyRequests, Forbidden."""
        served = self.api.resources.of(PODDISRUPTIONBUDGETS)
        name = budget["metadata"]["name"]
        now = self.api.now()

        async def produce(old: Object | None) -> Object:
            if old is None:
                raise not_found(PODDISRUPTIONBUDGETS, name)
            made: Object = orjson.loads(orjson.dumps(old))
            _take_one(made, self.name, now)
            return made

        info = RequestInfo("update", "", True, "policy", "v1", served.type.plural, "status", self.namespace, name)
        await change_object(self.api, served, info, produce, rules_of(self.api, served, "status"), self._writer())

    def _writer(self) -> Writer:
        return Writer(USER, options.WriteOptions(dry_run=self.asked.dry_run), MANAGER)

    async def _delete(self, asked: DeleteOptions) -> None:
        """Note why on the pod, then delete it."""
        now = self.api.now()

        async def produce(old: Object | None) -> Object:
            if old is None:
                raise not_found(PODS, self.name)
            check_preconditions(PODS, self.name, old, asked)
            made: Object = orjson.loads(orjson.dumps(old))
            target = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
                "lastProbeTime": None,
            }
            set_condition(made.setdefault("status", {}).setdefault("conditions", []), target, now=now)
            return made

        info = RequestInfo("update", "", True, "", "v1", "pods", "status", self.namespace, self.name)
        rules = rules_of(self.api, self.pods, "status")
        written = await change_object(self.api, self.pods, info, produce, rules, self._writer())
        if asked.resource_version is not None:
            asked = replace(asked, resource_version=_revision(written.record))
        await delete_object(self.api, self.pods, self.namespace, self.name, asked, USER, [])


def _revision(record: Record) -> str:
    return str(record.revision)


def _needs_no_budget(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(pod["metadata"].get("deletionTimestamp"))


def _is_ready(pod: Object) -> bool:
    ready = condition((pod.get("status") or {}).get("conditions"), "Ready")
    return ready is not None and ready.get("status") == "True"


def _lets_unhealthy_go(budget: Object) -> bool:
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    return desired > 0 and (status.get("currentHealthy") or 0) >= desired


def _refusal(told: str, seconds: int = 0) -> TooManyRequests:
    details: Object = {"causes": [{"reason": "DisruptionBudget", "message": told}]}
    if seconds:
        details["retryAfterSeconds"] = seconds
    return TooManyRequests(_REFUSED, details=details)


def _still_processed(budget: Object) -> TooManyRequests:
    name = budget["metadata"]["name"]
    return _refusal(f"The disruption budget {name} is still being processed by the server.", 10)


def _take_one(budget: Object, pod: str, now: str) -> None:
    """Count one disruption on the budget, in place. Raises TooManyRequests, Forbidden."""
    name = budget["metadata"]["name"]
    status = budget.setdefault("status", {})
    if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
        raise _still_processed(budget)
    allowed = status.get("disruptionsAllowed") or 0
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or {}) > _MOST_DISRUPTED:
        raise _forbidden(name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller")
    if allowed == 0:
        raise _refusal(_why(name, status))
    status["disruptionsAllowed"] = allowed - 1
    if allowed == 1:
        insufficient = {"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": ""}
        insufficient["observedGeneration"] = status.get("observedGeneration")
        set_condition(status.setdefault("conditions", []), insufficient, now=now)
    status.setdefault("disruptedPods", {})[pod] = now


def _why(name: str, status: Object) -> str:
    failed = condition(status.get("conditions"), "DisruptionAllowed")
    if failed is not None and failed.get("status") == "False" and failed.get("reason") == "SyncFailed":
        return (
            f"The disruption budget {name} does not allow evicting pods currently because it failed sync: "
            f"{failed.get('message', '')}"
        )
    current, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
    if current <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    return f"The disruption budget {name} does not allow evicting pods currently"


def _forbidden(name: str, told: str) -> Forbidden:
    return Forbidden(
        f'poddisruptionbudget.policy "{name}" is forbidden: {told}',
        details={"name": name, "group": "policy", "kind": "poddisruptionbudget"},
    )
