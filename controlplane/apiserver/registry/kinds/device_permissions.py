"""Who may do what with claims of devices, besides what is asked of every writer.

Devices that others use are looked into only from namespaces that an administrator has marked for it. Each part of a
claim's status is for those alone who may: allocation and reservations by who may `update resourceclaims/binding`,
reports about a driver's devices by who may `arbitrary-node:update resourceclaims/driver` of that name, or, on the node
that the claim is for, `associated-node:update`.

Source: pkg/registry/resource/utils.go; KEP-5018; feature DRAResourceClaimGranularStatusAuthorization.
"""

from __future__ import annotations

from controlplane.apiserver.authn.identity import NODE_NAME
from controlplane.apiserver.authz.refusal import refusal
from controlplane.apiserver.registry.objects import flag, items, sub, text, values
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.request import RequestInfo
from machinery.api import fielderror
from machinery.api.catalogue import NAMESPACES, RESOURCECLAIMS
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object, labels_of

_ADMIN_LABEL = "resource.kubernetes.io/admin-access"
_BINDING = "changing status.allocation or status.reservedFor requires extra permission"
_DEVICES = "changing status.devices requires extra permission"


async def claim_permitted(new: Object, old: Object | None, context: Context) -> list[FieldError]:
    """What is wrong with this user's creating or changing a ResourceClaim."""
    if old is None:
        return await _requests_permitted(new, context, "spec")
    before, after = (items(claim, "status", "allocation", "devices", "results") for claim in (old, new))
    errors: list[FieldError] = []
    if not any(flag(result, "adminAccess") for result in before):
        errors += await _administered("status.allocation.devices.results", list(enumerate(after)), context)
    return errors + await _may_bind(new, old, context) + await _may_report(new, old, context)


async def template_permitted(new: Object, old: Object | None, context: Context) -> list[FieldError]:
    """What is wrong with this user's creating a ResourceClaimTemplate."""
    return await _requests_permitted(new, context, "spec", "spec") if old is None else []


async def _administered(path: str, named: list[tuple[int, Object]], context: Context) -> list[FieldError]:
    found = next((i for i, one in named if flag(one, "adminAccess")), None)
    if found is None:
        return []
    namespace = await context.reader.get_latest(NAMESPACES, "", context.namespace)
    if namespace is not None and labels_of(namespace).get(_ADMIN_LABEL) == "true":
        return []
    told = f"admin access to devices requires the `{_ADMIN_LABEL}: true` label on the containing namespace"
    return [fielderror.forbidden(f"{path}[{found}].adminAccess", told)]


async def _requests_permitted(obj: Object, context: Context, *path: str) -> list[FieldError]:
    asked = [(i, sub(request, "exactly")) for i, request in enumerate(items(obj, *path, "devices", "requests"))]
    return await _administered("spec.devices.requests", asked, context)


def _asked(verb: str, subresource: str, namespace: str = "", name: str = "") -> RequestInfo:
    kind = RESOURCECLAIMS
    return RequestInfo(verb, "", True, kind.group, kind.version, kind.plural, subresource, namespace, name)


async def _refused(asked: RequestInfo, context: Context) -> str:
    """Why the user may not; empty if it may."""
    if context.authorize is None:
        return ""
    allowed, reason = await context.authorize(context.user, asked)
    told = refusal(context.user, asked)
    return "" if allowed else f"{told}: {reason}" if reason else told


async def _may_bind(new: Object, old: Object, context: Context) -> list[FieldError]:
    after, before = sub(new, "status"), sub(old, "status")
    if all((after.get(key) or None) == (before.get(key) or None) for key in ("allocation", "reservedFor")):
        return []
    refused = await _refused(_asked(context.verb, "binding"), context)
    return [fielderror.forbidden("status", f"{_BINDING}: {refused}")] if refused else []


def device_id(device: Object) -> tuple[str, ...]:
    """Which device an allocation or a report is about."""
    return tuple(text(device, key) for key in ("driver", "pool", "device"))


def taken_back(new: Object, old: Object) -> set[tuple[str, ...]]:
    """The devices that the claim has had and has no more."""
    after, before = (items(claim, "status", "allocation", "devices", "results") for claim in (new, old))
    return {device_id(result) for result in before} - {device_id(result) for result in after}


def _reports(claim: Object, gone: set[tuple[str, ...]]) -> dict[str, list[Object]]:
    """What is told of devices, by driver."""
    found: dict[str, list[Object]] = {}
    for device in items(claim, "status", "devices"):
        if device_id(device) not in gone:
            found.setdefault(text(device, "driver"), []).append(device)
    return found


async def _may_report(new: Object, old: Object, context: Context) -> list[FieldError]:
    # Reports about devices that are taken back go by themselves: who may bind claims takes them back.
    gone = taken_back(new, old)
    after, before = _reports(new, gone), _reports(old, gone)
    errors: list[FieldError] = []
    near = node_of(new) in (context.user.extra.get(NODE_NAME) or ())
    for driver in sorted(after.keys() | before.keys()):
        if after.get(driver) == before.get(driver):
            continue
        refused = ""
        for whose in ("associated-node", "arbitrary-node") if near else ("arbitrary-node",):
            refused = await _refused(_asked(f"{whose}:{context.verb}", "driver", context.namespace, driver), context)
            if not refused:
                break
        if refused:
            errors.append(fielderror.forbidden("status.devices", f"{_DEVICES}: {refused}"))
    return errors


def node_of(claim: Object) -> str | None:
    """The one node that a claim's devices are for; None if there are several, or none is said."""
    terms = items(claim, "status", "allocation", "nodeSelector", "nodeSelectorTerms")
    fields = items(terms[0], "matchFields") if len(terms) == 1 else []
    if len(fields) != 1 or items(terms[0], "matchExpressions"):
        return None
    named = values(fields[0], "values")
    exact = text(fields[0], "key") == "metadata.name" and text(fields[0], "operator") == "In" and len(named) == 1
    return str(named[0]) if exact else None
