"""CertificateSigningRequests: who asks is written down by the server, and decisions stand.

Source: pkg/registry/certificates/certificates/strategy.go.
"""

from __future__ import annotations

import copy

from controlplane.apiserver.registry.objects import child, items, set_or_drop, sub, text
from controlplane.apiserver.registry.rules import prepare_create, prepare_update
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import certificates as rules
from machinery.api import catalogue, names
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _create(csr: Object, context: Context) -> None:
    prepare_create(status={})(csr, context)
    spec, user = child(csr, "spec"), context.user
    for key in ("username", "uid", "groups", "extra"):
        spec.pop(key, None)
    asker = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    spec.update({key: value for key, value in asker.items() if value})


def _update(new: Object, old: Object, context: Context) -> None:
    prepare_update(status=True)(new, old, context)
    set_or_drop(new, "spec", old)


def _status(new: Object, old: Object, context: Context) -> None:
    """Decisions that are there keep their text."""
    set_or_drop(new, "spec", old)
    conditions = child(new, "status").get("conditions")
    for kind in ("Approved", "Denied"):
        before = [c for c in items(old, "status", "conditions") if text(c, "type") == kind]
        places = [i for i, c in enumerate(items(new, "status", "conditions")) if text(c, "type") == kind]
        if isinstance(conditions, list) and len(before) == len(places):
            for place, condition in zip(places, before, strict=True):
                conditions[place] = copy.deepcopy(condition)
    _date_conditions(new, old, context)


def prepare_approval(new: Object, old: Object, context: Context) -> None:
    """Keep everything but the conditions, and say when they changed."""
    set_or_drop(new, "spec", old)
    set_or_drop(child(new, "status"), "certificate", sub(old, "status"))
    _date_conditions(new, old, context)


def _date_conditions(new: Object, old: Object, context: Context) -> None:
    for condition in items(new, "status", "conditions"):
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or context.now
        condition["lastTransitionTime"] = condition.get("lastTransitionTime") or _since(condition, old) or context.now


def _since(condition: Object, old: Object) -> str:
    """When the condition came to be as it is, if it was so before."""
    alike = (
        text(c, "lastTransitionTime")
        for c in items(old, "status", "conditions")
        if all(c.get(key) == condition.get(key) for key in ("type", "status"))
    )
    return next((moment for moment in alike if moment), "")


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.CERTIFICATESIGNINGREQUESTS: Strategy(
        validate=rules.request,
        validate_name=names.path_segment,
        validate_update=rules.request_update,
        validate_status_update=rules.status_update,
        prepare_create=_create,
        prepare_update=_update,
        prepare_status_update=_status,
        has_status=True,
        fields={"spec.signerName": lambda csr: text(csr, "spec", "signerName")},
    ),
}
