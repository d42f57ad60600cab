"""The admission plugin PodSecurity.

Source: k8s.io/pod-security-admission/admission/admission.go,
k8s.io/kubernetes/plugin/pkg/admission/security/podsecurity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin, refuse, subject
from controlplane.apiserver.admission.podsecurity.baseline import CHECKS as BASELINE
from controlplane.apiserver.admission.podsecurity.levels import (
    LEVELS,
    PREFIX,
    PRIVILEGED,
    RESTRICTED,
    Policy,
    Standard,
    policy_of,
)
from controlplane.apiserver.admission.podsecurity.restricted import checks as restricted_checks
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    PODTEMPLATES,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from machinery.api.fielderror import FieldError, invalid_object, show
from machinery.api.meta import Object, annotations_of, controller_of, labels_of, name_of
from machinery.errors import InternalError

_CONTROLLERS = {
    REPLICATIONCONTROLLERS: ("spec", "template"),
    PODTEMPLATES: ("template",),
    REPLICASETS: ("spec", "template"),
    DEPLOYMENTS: ("spec", "template"),
    STATEFULSETS: ("spec", "template"),
    DAEMONSETS: ("spec", "template"),
    JOBS: ("spec", "template"),
    CRONJOBS: ("spec", "jobTemplate", "spec", "template"),
}
_IGNORED = frozenset({"exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"})
_MOST_PODS = 3000


@dataclass(frozen=True, slots=True)
class Settings:
    """PodSecurityConfiguration: what holds for namespaces without labels, and who is exempt."""

    defaults: Policy = field(default_factory=Policy)
    exempt_users: Collection[str] = ()
    exempt_namespaces: Collection[str] = ()
    exempt_runtime_classes: Collection[str] = ()


def findings(standard: Standard, metadata: Object, spec: Object) -> list[tuple[str, str]]:
    """What about a pod does not meet the standard: (reason, detail)."""
    if standard.level == PRIVILEGED:
        return []
    checks = restricted_checks(standard.minor) if standard.level == RESTRICTED else BASELINE.values()
    return [found for check in checks if (found := check(metadata, spec, standard.minor)) is not None]


def details(found: list[tuple[str, str]]) -> str:
    """Findings as one text."""
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


class PodSecurity(BasePlugin):
    """Refuses pods, notes them for the audit log, and warns, as the namespace says."""

    name = "PodSecurity"

    def __init__(self, reader: Reader, settings: Settings | None = None) -> None:
        self._reader = reader
        self._settings = settings or Settings()

    def handles(self, operation: Operation) -> bool:
        """Pods, what makes pods, and namespaces."""
        if operation.verb not in (CREATE, UPDATE):
            return False
        if operation.resource == PODS:
            return operation.subresource not in _IGNORED
        return not operation.subresource and (operation.resource in _CONTROLLERS or operation.resource == NAMESPACES)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden, Invalid."""
        if operation.resource == NAMESPACES:
            self._namespace(operation)
            return
        if operation.namespace in self._settings.exempt_namespaces:
            return
        if operation.user.name in self._settings.exempt_users:
            return
        policy, errors = await self._policy(operation)
        obj = subject(operation)
        if operation.resource == PODS:
            if policy == Policy() and not errors:
                return
            if operation.old is not None and not significant_update(operation.old, obj):
                return
            self._evaluate(operation, policy, errors, obj.get("metadata") or {}, obj.get("spec") or {}, enforce=True)
            return
        if policy.audit.level == policy.warn.level == PRIVILEGED and not errors:
            return
        template: Any = obj
        for key in _CONTROLLERS[operation.resource]:
            template = template.get(key) or {}
        if template:
            metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
            self._evaluate(operation, policy, errors, metadata, spec, enforce=False)

    async def _policy(self, operation: Operation) -> tuple[Policy, list[FieldError]]:
        namespace = self._reader.get(NAMESPACES, "", operation.namespace)
        if namespace is None:
            namespace = await self._reader.get_latest(NAMESPACES, "", operation.namespace)
        if namespace is None:
            raise InternalError(f"Internal error occurred: failed to lookup namespace {show(operation.namespace)}")
        return policy_of(labels_of(namespace), self._settings.defaults)

    def _evaluate(
        self,
        operation: Operation,
        policy: Policy,
        errors: list[FieldError],
        metadata: Object,
        spec: Object,
        *,
        enforce: bool,
    ) -> None:
        if spec.get("runtimeClassName") in self._settings.exempt_runtime_classes:
            return
        audit = operation.audit_annotations
        if errors:
            audit[f"{PREFIX}error"] = "Failed to parse policy: " + ", ".join(map(str, errors))
        if enforce:
            audit[f"{PREFIX}enforce-policy"] = str(policy.enforce)
        if found := findings(policy.audit, metadata, spec):
            told = f"would violate PodSecurity {show(str(policy.audit))}: {details(found)}"
            audit[f"{PREFIX}audit-violations"] = told
        if enforce and (found := findings(policy.enforce, metadata, spec)):
            raise refuse(operation, f"violates PodSecurity {show(str(policy.enforce))}: {details(found)}")
        if found := findings(policy.warn, metadata, spec):
            told = f"would violate PodSecurity {show(str(policy.warn))}: {details(found)}"
            operation.warnings.append(told)

    def _namespace(self, operation: Operation) -> None:
        namespace = subject(operation)
        policy, errors = policy_of(labels_of(namespace), self._settings.defaults)
        before, old_errors = (
            policy_of(labels_of(operation.old), self._settings.defaults)
            if operation.old is not None
            else (Policy(), [])
        )
        if errors and errors != old_errors:
            raise invalid_object("", "Namespace", name_of(namespace), errors)
        if operation.old is None or policy.enforce == before.enforce or policy.enforce.level == PRIVILEGED:
            return
        stricter = LEVELS.index(policy.enforce.level) > LEVELS.index(before.enforce.level)
        if policy.enforce.minor == before.enforce.minor and not stricter:
            return
        if name_of(namespace) not in self._settings.exempt_namespaces:
            operation.warnings += self._existing_pods(name_of(namespace), policy.enforce)

    def _existing_pods(self, namespace: str, standard: Standard) -> list[str]:
        """What to warn about when a namespace becomes stricter than the pods that are in it."""
        exempt = self._settings.exempt_runtime_classes
        pods = _one_of_each_first(
            pod
            for pod in self._reader.list(PODS, namespace)
            if (pod.get("spec") or {}).get("runtimeClassName") not in exempt
        )
        names: dict[str, list[str]] = {}
        for pod in pods[:_MOST_PODS]:
            found = findings(standard, pod["metadata"], pod.get("spec") or {})
            if found:
                names.setdefault(", ".join(reason for reason, _ in found), []).append(name_of(pod))
        warnings = []
        if len(pods) > _MOST_PODS:
            told = f"only checked against the first {_MOST_PODS} of {len(pods)} existing pods"
            warnings.append(f"new PodSecurity enforce level {told}")
        if names:
            told = f"violate the new PodSecurity enforce level {show(str(standard))}"
            warnings.append(f"existing pods in namespace {show(namespace)} {told}")
        return warnings + sorted(f"{_first_and_others(pods)}: {reasons}" for reasons, pods in names.items())


def _one_of_each_first(pods: Iterable[Object]) -> list[Object]:
    """Pods of one controller are alike: the first of each, then the others."""
    first, others, seen = list[Object](), list[Object](), set[str]()
    for pod in pods:
        owner = (controller_of(pod) or {}).get("uid")
        (others if owner in seen else first).append(pod)
        if owner is not None:
            seen.add(owner)
    return first + others


def _first_and_others(names: list[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other pod{'' if others == 1 else 's'})"


def significant_update(old: Object, new: Object) -> bool:
    """Whether an update of a pod touches what is looked at: images, and containers that come."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if any(
        annotations_of(old).get(key) != value
        for key, value in annotations_of(new).items()
        if "apparmor" in key or "seccomp" in key
    ):
        return True
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        images = {c.get("name"): c.get("image") for c in before.get(kind) or ()}
        now = {c.get("name"): c.get("image") for c in after.get(kind) or ()}
        if images != now:
            return True
    return False
