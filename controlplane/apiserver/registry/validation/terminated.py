"""Containers that have ended for good: no report may say that they run again.

Source: pkg/apis/core/validation/validation.go (ValidateContainerStateTransition, ValidateInitContainerStateTransition);
KEP-5307 (a container's own policy and rules); KEP-5532 (one container's end restarts all).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import items, number, sub, text
from machinery.api.fielderror import FieldError, forbidden
from machinery.api.meta import Object

_RESTART, _RESTART_ALL = "Restart", "RestartAllContainers"


def came_back(status: Object, before: Object, spec: Object) -> list[FieldError]:
    """What is wrong with a pod's status where `before` says that a container has ended."""
    errors: list[FieldError] = []
    all_restart = any(_may_restart_all(c) for c in [*items(spec, "initContainers"), *items(spec, "containers")])
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        section = f"{kind.removesuffix('s')}Statuses"
        if all_restart and kind != "ephemeralContainers":
            continue
        policy = "Never" if kind == "ephemeralContainers" else text(spec, "restartPolicy")
        containers = {text(c, "name"): c for c in items(spec, kind)}
        running = {text(s, "name") for s in items(status, section) if not _has_ended(s)}
        for index, old in enumerate(items(before, section)):
            name = text(old, "name")
            if not _has_ended(old) or name not in running:
                continue
            code = number(old, "state", "terminated", "exitCode")
            if not _restarts(containers.get(name, {}), policy, code):
                where = f"status.{section}[{index}].state"
                errors.append(forbidden(where, "may not be transitioned to non-terminated state"))
    return errors


def _has_ended(status: Object) -> bool:
    return isinstance(sub(status, "state").get("terminated"), dict)


def _may_restart_all(container: Object) -> bool:
    return any(text(rule, "action") == _RESTART_ALL for rule in items(container, "restartPolicyRules"))


def _restarts(container: Object, of_pod: str, code: int) -> bool:
    """Whether a container runs again after this exit code."""
    for rule in items(container, "restartPolicyRules"):
        codes = sub(rule, "exitCodes")
        if (code in (codes.get("values") or ())) == (text(codes, "operator") == "In"):
            if text(rule, "action") == _RESTART:
                return True
            break
    policy = text(container, "restartPolicy") or of_pod
    return policy != "Never" and (policy != "OnFailure" or code != 0)
