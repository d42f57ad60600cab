"""certificatesigningrequests/NAME/approval: only the conditions change, and a decision stands.

Source: k8s.io/kubernetes/pkg/registry/certificates/certificates/strategy.go, pkg/apis/certificates/validation.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.handlers.contract import UpdateRules
from controlplane.apiserver.registry.strategy import Context
from machinery.api.fielderror import FieldError, duplicate, forbidden, invalid, not_supported, required
from machinery.api.meta import Object

_DECISIONS = ("Approved", "Denied", "Failed")
_FIELD = "status.conditions"
_OWN = ("apiVersion", "kind", "metadata")


def _conditions(obj: Object) -> list[Any]:
    return (obj.get("status") or {}).get("conditions") or []


def prepare(new: Object, old: Object, context: Context) -> None:
    """Keep everything but the conditions, and say when they changed."""
    given = _conditions(new)
    for condition in given:
        condition["lastUpdateTime"] = condition.get("lastUpdateTime") or context.now
        condition["lastTransitionTime"] = (
            condition.get("lastTransitionTime") or _since(condition, _conditions(old)) or context.now
        )
    for key in [key for key in new if key not in _OWN]:
        del new[key]
    new.update({key: value for key, value in old.items() if key not in (*_OWN, "status")})
    status = {key: value for key, value in (old.get("status") or {}).items() if key != "conditions"}
    new["status"] = status | ({"conditions": given} if given else {})


def _since(condition: Any, before: list[Any]) -> str:
    """When the condition came to be as it is, if it was so before."""
    same = (c for c in before if all(c.get(key) == condition.get(key) for key in ("type", "status")))
    return next((c["lastTransitionTime"] for c in same if c.get("lastTransitionTime")), "")


def validate(new: Object, old: Object) -> list[FieldError]:
    """What is wrong with the conditions: incomplete, contradictory, or a decision taken back."""
    before, after = _conditions(old), _conditions(new)
    known = {str(c.get("type") or "") for c in before}
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, condition in enumerate(after):
        at = f"{_FIELD}[{index}]"
        kind, status = str(condition.get("type") or ""), str(condition.get("status") or "")
        if not kind and "" not in known:
            errors.append(required(f"{at}.type"))
        allowed = ("True",) if kind in _DECISIONS else ("True", "False", "Unknown")
        if not status:
            errors.append(required(f"{at}.status"))
        elif status not in allowed:
            errors.append(not_supported(f"{at}.status", status, allowed))
        other = {"Approved": "Denied", "Denied": "Approved"}.get(kind)
        if other in seen and not {"Approved", "Denied"} <= known:
            errors.append(invalid(_FIELD, kind, "Approved and Denied conditions are mutually exclusive"))
        if kind in seen:
            errors.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
    errors += [
        forbidden(_FIELD, f'updates may not remove a condition of type "{kind}"')
        for kind in _DECISIONS
        if kind in known and kind not in seen
    ]
    return errors


APPROVAL = UpdateRules(prepare, validate)
