"""ResourceQuota: charges what is created to the quotas of its namespace, or refuses it.

Charging is optimistic: the new usage is written on the revision it was computed from; when another request or server
was quicker, everything is computed again.

Source: k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.reader import Reader
from machinery.api import quantity
from machinery.api.catalogue import (
    DEVICECLASSES,
    NAMESPACES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    RESOURCECLAIMS,
    RESOURCEQUOTAS,
    SERVICES,
)
from machinery.api.devicequota import ALONE, Surroundings
from machinery.api.meta import Object, name_of
from machinery.api.quantity import ZERO, Quantity
from machinery.api.quotausage import Usage, in_scope, matching, missing_constraints, relevant, scopes_of, usage
from machinery.errors import Conflict, InternalError, NotFound, StatusError

_ATTEMPTS = 10
_CHANGING = (SERVICES, PERSISTENTVOLUMECLAIMS, RESOURCECLAIMS)
"""What can come to count for more by an update."""


class ResourceQuota(BasePlugin):
    """Runs last, so that nothing is charged that another plugin refuses."""

    name = "ResourceQuota"

    def __init__(self, reader: Reader, loopback: Loopback, limited: Sequence[Object] = ()) -> None:
        self._reader = reader
        self._around = Surroundings(
            lambda name: reader.get(DEVICECLASSES, "", name), lambda namespace, name: reader.get(PODS, namespace, name)
        )
        self._limited = limited  # `limitedResources` of a ResourceQuotaConfiguration
        self._loopback = loopback
        self._locks: dict[str, asyncio.Lock] = {}  # by namespace, while somebody charges

    def handles(self, operation: Operation) -> bool:
        """Creations in a namespace; updates of what can grow."""
        if not operation.namespace or operation.resource == NAMESPACES:
            return False
        if operation.verb == CREATE:
            return not operation.subresource
        if operation.verb != UPDATE:
            return False
        if operation.resource == PODS:
            return operation.subresource == "resize"
        return not operation.subresource and operation.resource in _CHANGING

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        namespace = operation.namespace
        if not self._limited and not any(True for _ in self._reader.list(RESOURCEQUOTAS, namespace)):
            return
        lock = self._locks.setdefault(namespace, asyncio.Lock())
        try:
            async with lock:
                await self._charge(operation)
        finally:
            if not lock.locked():
                self._locks.pop(namespace, None)

    async def _charge(self, operation: Operation) -> None:
        quotas = list(self._reader.list(RESOURCEQUOTAS, operation.namespace))
        for _ in range(_ATTEMPTS):
            changed = charged(operation, quotas, self._limited, self._around)
            if not changed or operation.dry_run:
                return
            if await self._write(changed):
                return
            quotas = [q for q in [await self._latest(quota) for quota in quotas] if q is not None]
        raise InternalError("Internal error occurred: resource quota evaluation timed out")

    async def _write(self, changed: Iterable[Object]) -> bool:
        """Whether all could be written; those that were are charged again, and corrected by the quota controller."""
        try:
            for quota in changed:
                await self._loopback.update(RESOURCEQUOTAS, quota, "status")
        except (Conflict, NotFound):
            return False
        return True

    async def _latest(self, quota: Object) -> Object | None:
        return await self._reader.get_latest(RESOURCEQUOTAS, quota["metadata"]["namespace"], name_of(quota))


def charged(
    operation: Operation, quotas: Sequence[Object], limited: Sequence[Object] = (), around: Surroundings = ALONE
) -> list[Object]:
    """The quotas that the operation counts against, with it in their usage. Raises Forbidden. Changes nothing."""
    obj = subject(operation)
    pertinent = [quota for quota in quotas if _pertinent(operation, quota, obj)]
    if not pertinent and not limited:
        return []
    whole = delta = usage(operation.resource, obj, around=around)
    negative = sorted(name for name, amount in delta.items() if amount < ZERO)
    if negative:
        raise refuse(operation, f"quota usage is negative for resource(s): {','.join(negative)}")
    if operation.old is not None:
        before = usage(operation.resource, operation.old, around=around)
        delta = {name: amount - before.get(name, ZERO) for name, amount in delta.items()}
    delta = {name: amount for name, amount in delta.items() if amount > ZERO}
    if delta:
        _check_covered(operation, quotas, pertinent, limited, whole)
    changed = []
    for quota in pertinent:
        status = quota["status"]
        hard, used = _parsed(status.get("hard")), _parsed(status.get("used"))
        requested = {name: amount for name, amount in delta.items() if name in hard}
        exceeded = {name for name, amount in requested.items() if used.get(name, ZERO) + amount > hard[name]}
        if exceeded:
            raise refuse(
                operation,
                f"exceeded quota: {name_of(quota)}, requested: {_told(requested, exceeded)}, "
                f"used: {_told(used, exceeded)}, limited: {_told(hard, exceeded)}",
            )
        if requested:
            now = {name: str(used.get(name, ZERO) + amount) for name, amount in requested.items()}
            changed.append(quota | {"status": status | {"used": (status.get("used") or {}) | now}})
    return changed


def _check_covered(
    operation: Operation, quotas: Sequence[Object], pertinent: Sequence[Object], limited: Sequence[Object], whole: Usage
) -> None:
    """What may be used within a quota only must have one. Raises Forbidden, StatusError."""
    resource, obj = operation.resource, subject(operation)
    asked = {
        name
        for item in limited
        if (item.get("apiGroup") or "", item.get("resource")) == (resource.group, resource.plural)
        for name, amount in whole.items()
        if amount > ZERO and any(part in name for part in item.get("matchContains") or ())
    }
    for quota in pertinent:
        asked -= relevant(resource, (quota.get("status") or {}).get("hard") or ())
    if asked:
        raise refuse(operation, f"insufficient quota to consume: {','.join(sorted(asked))}")
    covered = {s.get("scopeName") for quota in quotas for s in matching(scopes_of(quota), resource, obj)}
    wanted = [s for item in limited for s in matching(item.get("matchScopes") or (), resource, obj)]
    lacking = [
        f"{{{s.get('scopeName')} {s.get('operator')} [{' '.join(s.get('values') or ())}]}}"
        for s in wanted
        if s.get("scopeName") not in covered
    ]
    if lacking:
        raise StatusError.plain(f"insufficient quota to match these scopes: [{' '.join(lacking)}]")


def _pertinent(operation: Operation, quota: Object, obj: Object) -> bool:
    status = quota.get("status") or {}
    names = relevant(operation.resource, status.get("hard") or ())
    if not names or not in_scope(quota, operation.resource, obj):
        return False
    if lacking := missing_constraints(operation.resource, obj, names):
        raise refuse(operation, f"failed quota: {name_of(quota)}: must specify {lacking}")
    if names - (status.get("used") or {}).keys():
        told = ",".join(sorted(names))
        raise refuse(operation, f"status unknown for quota: {name_of(quota)}, resources: {told}")
    return True


def _parsed(amounts: Mapping[str, str] | None) -> Usage:
    return {name: quantity.parse(amount) for name, amount in (amounts or {}).items()}


def _told(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts.get(name, ZERO)}" for name in sorted(names))
