"""Deployments, ReplicaSets, ReplicationControllers, DaemonSets, StatefulSets, ControllerRevisions.

Source: pkg/apis/apps/validation/validation.go, pkg/apis/core/validation/validation.go.
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.objects import integer, items, number, strings, sub, text
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.parts import (
    IMMUTABLE,
    at_most_all,
    dictionary,
    is_empty_selector,
    label_selector,
    must_equal,
    not_negative,
    number_of,
    ordered,
    percent_or_number,
    same,
    selector_of,
    unsupported,
)
from controlplane.apiserver.registry.validation.podspec import template as pod_template
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

NO_MATCH = "`selector` does not match template `labels`"
_BAD_SELECTOR = "invalid label selector"


def _selected(at: str, selector: Any, template: Object) -> list[FieldError]:
    """The selector must match the labels of the template."""
    found = selector_of(selector)
    labels = strings(template, "metadata", "labels")
    if found is not None and (found or selector is None) and not found.matches(labels):
        return [invalid(f"{at}.metadata.labels", ordered(labels), NO_MATCH)]
    return []


def _always(at: str, template: Object, kind: str) -> list[FieldError]:
    """Pods of these kinds are restarted whatever happens, and have no end."""
    errors: list[FieldError] = []
    policy = text(template, "spec", "restartPolicy")
    if policy != "Always":
        errors.append(unsupported(f"{at}.spec.restartPolicy", policy, ("Always",)))
    if integer(template, "spec", "activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden(f"{at}.spec.activeDeadlineSeconds", detail))
    return errors


def _selector(at: str, selector: Any, kind: str) -> list[FieldError]:
    if not isinstance(selector, dict):
        return [required(at)]
    errors = label_selector(at, selector)
    if is_empty_selector(selector):
        errors.append(invalid(at, selector, f"empty selector is invalid for {kind}"))
    return errors


def _template_for_replica_set(at: str, spec: Object) -> list[FieldError]:
    selector, template = spec.get("selector"), sub(spec, "template")
    if isinstance(selector, dict) and selector_of(selector) is None:
        return [invalid("spec.selector", selector, _BAD_SELECTOR)]
    errors = _selected(at, selector, template)
    return errors + pod_template(at, template) + _always(at, template, "ReplicaSet")


def deployment(obj: Object) -> list[FieldError]:
    """A Deployment."""
    spec = sub(obj, "spec")
    errors = not_negative("spec.replicas", spec.get("replicas"))
    errors += _selector("spec.selector", spec.get("selector"), "deployment")
    errors += _template_for_replica_set("spec.template", spec)
    errors += _deployment_strategy("spec.strategy", sub(spec, "strategy"))
    errors += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline = integer(spec, "progressDeadlineSeconds")
    if deadline is not None:
        errors += not_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= number(spec, "minReadySeconds"):
            errors.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return errors


def _deployment_strategy(at: str, strategy: Object) -> list[FieldError]:
    kind, rolling = text(strategy, "type"), dictionary(strategy, "rollingUpdate")
    if kind == "Recreate":
        detail = "may not be specified when strategy `type` is 'Recreate'"
        return [] if rolling is None else [forbidden(f"{at}.rollingUpdate", detail)]
    if kind != "RollingUpdate":
        return [unsupported(at, internal_forms.update_strategy(strategy), ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [required(f"{at}.rollingUpdate", "this should be defaulted and never be nil")]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    where = f"{at}.rollingUpdate"
    errors = percent_or_number(f"{where}.maxUnavailable", unavailable)
    errors += percent_or_number(f"{where}.maxSurge", surge)
    if number_of(unavailable) == 0 and number_of(surge) == 0:
        errors.append(invalid(f"{where}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_all(f"{where}.maxUnavailable", unavailable)


def deployment_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a Deployment."""
    return deployment(new) + _same_selector(new, old)


def _same_selector(new: Object, old: Object) -> list[FieldError]:
    return must_equal("spec.selector", sub(new, "spec").get("selector"), sub(old, "spec").get("selector"))


_OVER = "cannot be greater than status.replicas"


def _counts(obj: Object, keys: tuple[str, ...]) -> list[FieldError]:
    status = sub(obj, "status")
    return [e for key in keys for e in not_negative(f"status.{key}", status.get(key))]


def _within(obj: Object, keys: tuple[str, ...]) -> list[FieldError]:
    total = number(obj, "status", "replicas")
    return [
        invalid(f"status.{key}", number(obj, "status", key), _OVER)
        for key in keys
        if number(obj, "status", key) > total
    ]


def _available_within_ready(obj: Object, detail: str) -> list[FieldError]:
    available = number(obj, "status", "availableReplicas")
    if available > number(obj, "status", "readyReplicas"):
        return [invalid("status.availableReplicas", available, detail)]
    return []


def _collisions(new: Object, old: Object) -> list[FieldError]:
    now, before = integer(new, "status", "collisionCount"), integer(old, "status", "collisionCount")
    if before is not None and (now is None or now < before):
        return [invalid("status.collisionCount", now or 0, "cannot be decremented")]
    return []


def deployment_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a Deployment."""
    keys = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    errors = _counts(new, (*keys, "unavailableReplicas", "terminatingReplicas", "collisionCount"))
    errors += _within(new, ("updatedReplicas", "readyReplicas", "availableReplicas"))
    errors += _available_within_ready(new, "cannot be greater than readyReplicas")
    return errors + _collisions(new, old)


def replica_set(obj: Object) -> list[FieldError]:
    """A ReplicaSet."""
    spec = sub(obj, "spec")
    errors = not_negative("spec.replicas", spec.get("replicas"))
    errors += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += _selector("spec.selector", spec.get("selector"), "deployment")
    return errors + _template_for_replica_set("spec.template", spec)


def replica_set_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ReplicaSet: upstream looks at it as at a new one first, and then once more."""
    errors = replica_set(new)
    return errors + errors + _same_selector(new, old)


def replicas_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a ReplicaSet or ReplicationController."""
    keys = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    errors = _counts(new, (*keys, "terminatingReplicas"))
    errors += _within(new, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"))
    return errors + _available_within_ready(new, "cannot be greater than readyReplicas")


def replication_controller(obj: Object) -> list[FieldError]:
    """A ReplicationController."""
    spec = sub(obj, "spec")
    selector, template = strings(spec, "selector"), dictionary(spec, "template")
    errors = not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    if not selector:
        errors.append(required("spec.selector"))
    errors += not_negative("spec.replicas", spec.get("replicas"))
    if template is None:
        return [*errors, required("spec.template")]
    labels = strings(template, "metadata", "labels")
    if selector and any(labels.get(k) != v for k, v in selector.items()):
        errors.append(invalid("spec.template.metadata.labels", ordered(labels), NO_MATCH))
    errors += pod_template("spec.template", template)
    return errors + _always("spec.template", template, "ReplicationController")


def daemon_set(obj: Object) -> list[FieldError]:
    """A DaemonSet."""
    spec = sub(obj, "spec")
    selector, template = spec.get("selector"), sub(spec, "template")
    errors = label_selector("spec.selector", selector)
    found, labels = selector_of(selector), strings(template, "metadata", "labels")
    if found is not None and not found.matches(labels):
        errors.append(invalid("spec.template.metadata.labels", ordered(labels), NO_MATCH))
    if is_empty_selector(selector):
        errors.append(invalid("spec.selector", selector, "empty selector is invalid for daemonset"))
    errors += pod_template("spec.template", template)
    errors += _always("spec.template", template, "DaemonSet")
    errors += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += _daemon_strategy("spec.updateStrategy", sub(spec, "updateStrategy"))
    return errors + not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))


def _daemon_strategy(at: str, strategy: Object) -> list[FieldError]:
    kind = text(strategy, "type")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [unsupported(at, internal_forms.update_strategy(strategy), ("RollingUpdate", "OnDelete"))]
    rolling = dictionary(strategy, "rollingUpdate")
    if rolling is None:
        return [required(f"{at}.rollingUpdate")]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    where = f"{at}.rollingUpdate"
    errors = percent_or_number(f"{where}.maxUnavailable", unavailable)
    errors += percent_or_number(f"{where}.maxSurge", surge)
    errors += at_most_all(f"{where}.maxUnavailable", unavailable) + at_most_all(f"{where}.maxSurge", surge)
    if number_of(unavailable) and number_of(surge):
        errors.append(invalid(f"{where}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not number_of(unavailable) and not number_of(surge):
        errors.append(required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def daemon_set_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a DaemonSet: looked at twice, as a ReplicaSet."""
    errors = daemon_set(new)
    return errors + errors + _same_selector(new, old)


def daemon_set_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a DaemonSet."""
    keys = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    more = ("observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount")
    return _counts(new, (*keys, *more)) + _collisions(new, old)


def stateful_set(obj: Object) -> list[FieldError]:
    """A StatefulSet."""
    spec = sub(obj, "spec")
    policy, strategy = text(spec, "podManagementPolicy"), sub(spec, "updateStrategy")
    errors: list[FieldError] = []
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    errors += _stateful_strategy("spec.updateStrategy", strategy)
    for key in ("whenDeleted", "whenScaled"):
        found = text(spec, "persistentVolumeClaimRetentionPolicy", key)
        if found and found not in ("Retain", "Delete"):
            at = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
            errors.append(unsupported(at, found, ("Retain", "Delete")))
    errors += not_negative("spec.replicas", spec.get("replicas"))
    errors += not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += not_negative("spec.ordinals.start", sub(spec, "ordinals").get("start"))
    selector = spec.get("selector")
    errors += _selector("spec.selector", selector, "statefulset")
    template = _with_claims(sub(spec, "template"), items(spec, "volumeClaimTemplates"))
    if isinstance(selector, dict) and selector_of(selector) is None:
        errors.append(invalid("spec.selector", selector, ""))
    else:
        errors += _selected("spec.template", selector, template)
        errors += pod_template("spec.template", template)
    return errors + _always("spec.template", template, "StatefulSet")


def _with_claims(template: Object, claims: list[Object]) -> Object:
    """The template with the volumes that its claims will be."""
    spec = sub(template, "spec")
    known = {text(v, "name") for v in items(spec, "volumes")}
    added = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}}
        for name in dict.fromkeys(text(c, "metadata", "name") for c in claims)
        if name and name not in known
    ]
    return {**template, "spec": {**spec, "volumes": [*items(spec, "volumes"), *added]}} if added else template


def _stateful_strategy(at: str, strategy: Object) -> list[FieldError]:
    kind, rolling = text(strategy, "type"), dictionary(strategy, "rollingUpdate")
    if not kind:
        return [required(at)]
    if kind == "OnDelete":
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        return [] if rolling is None else [invalid(f"{at}.rollingUpdate", rolling, detail)]
    if kind != "RollingUpdate":
        shown = internal_forms.update_strategy(strategy)
        return [invalid(at, shown, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    where = f"{at}.rollingUpdate"
    errors = not_negative(f"{where}.partition", rolling.get("partition"))
    unavailable = rolling.get("maxUnavailable")
    if unavailable is not None:
        errors += percent_or_number(f"{where}.maxUnavailable", unavailable)
        if number_of(unavailable) == 0:
            errors.append(invalid(f"{where}.maxUnavailable", unavailable, "cannot be 0"))
        errors += at_most_all(f"{where}.maxUnavailable", unavailable)
    return errors


_STATEFUL_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def stateful_set_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a StatefulSet."""
    errors = stateful_set(new)
    after, before = sub(new, "spec"), sub(old, "spec")
    keys = (after.keys() | before.keys()) - set(_STATEFUL_MUTABLE)
    if not all(same(after.get(k), before.get(k)) for k in keys):
        detail = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        errors.append(forbidden("spec", detail))
    return errors


def stateful_set_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a StatefulSet."""
    keys = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    errors = _counts(new, (*keys, "observedGeneration", "collisionCount"))
    errors += _within(new, keys[1:])
    errors += _available_within_ready(new, "cannot be greater than status.readyReplicas")
    return errors + _collisions(new, old)


def controller_revision(obj: Object) -> list[FieldError]:
    """A ControllerRevision."""
    errors = [] if obj.get("data") is not None else [required("data", "data is mandatory")]
    return errors + not_negative("revision", obj.get("revision"))


def controller_revision_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a ControllerRevision: its data stays."""
    errors = controller_revision(new)
    if new.get("data") != old.get("data"):
        errors.append(invalid("data", new.get("data"), IMMUTABLE))
    return errors


def pod_template_object(obj: Object) -> list[FieldError]:
    """A PodTemplate."""
    return pod_template("template", obj.get("template"))
