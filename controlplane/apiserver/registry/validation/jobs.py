"""Jobs and CronJobs.

Source: pkg/apis/batch/validation/validation.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.job_selector import (
    CONTROLLER_UID,
    JOB_NAME,
    LEGACY_CONTROLLER_UID,
    LEGACY_JOB_NAME,
)
from controlplane.apiserver.registry.objects import flag, integer, items, strings, sub, text, values
from controlplane.apiserver.registry.validation import internal_forms
from controlplane.apiserver.registry.validation.cron import schedule, time_zone
from controlplane.apiserver.registry.validation.job_indexes import INDEXED, intervals
from controlplane.apiserver.registry.validation.job_templates import template_update
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_selector,
    must_equal,
    not_negative,
    ordered,
    repeated,
    selector_of,
    unsupported,
)
from controlplane.apiserver.registry.validation.podspec import template as pod_template
from controlplane.apiserver.registry.validation.workloads import NO_MATCH
from machinery.api import names
from machinery.api.fielderror import OMIT, FieldError, invalid, required, too_long, too_many
from machinery.api.meta import Object, name_of, uid_of

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_MOST_PARALLEL = 100_000


def job(obj: Object) -> list[FieldError]:
    """A new Job."""
    errors = _generated_selector(obj)
    spec = sub(obj, "spec")
    errors += job_spec("spec", spec)
    completions = integer(spec, "completions")
    if text(spec, "completionMode") == INDEXED and completions:
        hostname = f"{name_of(obj)}-{completions - 1}"
        if names.dns1123_label(hostname):
            detail = f"will not able to create pod with invalid DNS label: {hostname}"
            errors.append(invalid("metadata.name", name_of(obj), detail))
    return errors


def _generated_selector(obj: Object) -> list[FieldError]:
    spec = sub(obj, "spec")
    if flag(spec, "manualSelector") or not isinstance(spec.get("selector"), dict):
        return []
    if not uid_of(obj):
        return [required("metadata.uid")]
    expected = {
        LEGACY_CONTROLLER_UID: uid_of(obj),
        LEGACY_JOB_NAME: name_of(obj),
        CONTROLLER_UID: uid_of(obj),
        JOB_NAME: name_of(obj),
    }
    labels = strings(spec, "template", "metadata", "labels")
    errors: list[FieldError] = []
    for key, value in expected.items():
        at = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            errors.append(required(at, f"must be '{value}'"))
        elif labels[key] != value:
            errors.append(invalid(at, labels, f"must be '{value}'"))
    selector = selector_of(spec["selector"])
    if selector is not None and not selector.matches(expected):
        errors.append(invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return errors


def job_spec(at: str, spec: Object) -> list[FieldError]:
    """The spec of a Job that exists."""
    errors = _common(at, spec)
    selector = spec.get("selector")
    errors += label_selector(f"{at}.selector", selector) if isinstance(selector, dict) else [required(f"{at}.selector")]
    found, labels = selector_of(selector), strings(spec, "template", "metadata", "labels")
    if found is not None and not found.matches(labels):
        errors.append(invalid(f"{at}.template.metadata.labels", ordered(labels), NO_MATCH))
    return errors


def _common(at: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for key in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        errors += not_negative(f"{at}.{key}", spec.get(key))
    errors += not_negative(f"{at}.backoffLimitPerIndex", spec.get("backoffLimitPerIndex"))
    if spec.get("maxFailedIndexes") is not None:
        errors += not_negative(f"{at}.maxFailedIndexes", spec["maxFailedIndexes"])
        if spec.get("backoffLimitPerIndex") is None:
            errors.append(required(f"{at}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    manager = spec.get("managedBy")
    if isinstance(manager, str):
        errors += check_names(f"{at}.managedBy", manager, names.domain_prefixed_path)
        if len(manager) > 63:
            errors.append(too_long(f"{at}.managedBy", 63))
    errors += _completion_mode(at, spec)
    if (policy := dictionary(spec, "podFailurePolicy")) is not None:
        errors += _failure_policy(f"{at}.podFailurePolicy", policy, spec)
    if (policy := dictionary(spec, "successPolicy")) is not None:
        if text(spec, "completionMode") != INDEXED:
            shown = internal_forms.success_policy(policy)
            errors.append(invalid(f"{at}.successPolicy", shown, "requires indexed completion mode"))
        else:
            errors += _success_policy(f"{at}.successPolicy", policy, integer(spec, "completions") or 0)
    errors += _replacement(f"{at}.podReplacementPolicy", spec)
    errors += pod_template(f"{at}.template", spec.get("template"))
    return errors + _restart_policy(f"{at}.template.spec.restartPolicy", spec)


def _restart_policy(at: str, spec: Object) -> list[FieldError]:
    policy = text(spec, "template", "spec", "restartPolicy")
    if policy == "Always":
        return [required(at, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [unsupported(at, policy, ("OnFailure", "Never"))]
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        return [invalid(at, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _completion_mode(at: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    mode = spec.get("completionMode")
    if isinstance(mode, str):
        if mode not in ("NonIndexed", INDEXED):
            errors.append(unsupported(f"{at}.completionMode", mode, ("NonIndexed", INDEXED)))
        if mode == INDEXED:
            errors += _indexed(at, spec)
    if mode in (None, "NonIndexed"):
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(key) is not None:
                errors.append(invalid(f"{at}.{key}", spec[key], "requires indexed completion mode"))
    return errors


def _indexed(at: str, spec: Object) -> list[FieldError]:
    completions, parallelism = integer(spec, "completions"), integer(spec, "parallelism")
    if completions is None:
        return [required(f"{at}.completions", "when completion mode is Indexed")]
    errors: list[FieldError] = []
    if parallelism is not None and parallelism > _MOST_PARALLEL:
        detail = f"must be less than or equal to {_MOST_PARALLEL} when completion mode is Indexed"
        errors.append(invalid(f"{at}.parallelism", parallelism, detail))
    failed = integer(spec, "maxFailedIndexes")
    if failed is not None and failed > completions:
        errors.append(invalid(f"{at}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MOST_PARALLEL:
        errors.append(invalid(f"{at}.maxFailedIndexes", failed, f"must be less than or equal to {_MOST_PARALLEL}"))
    few = (
        f"must be less than or equal to 10000 when completions are above {_MOST_PARALLEL} and used with backoff limit "
        "per index"
    )
    if completions > _MOST_PARALLEL and spec.get("backoffLimitPerIndex") is not None:
        if failed is None:
            detail = f"must be specified when completions is above {_MOST_PARALLEL}"
            errors.append(required(f"{at}.maxFailedIndexes", detail))
        if parallelism is not None and parallelism > 10_000:
            errors.append(invalid(f"{at}.parallelism", parallelism, few))
        if failed is not None and failed > 10_000:
            errors.append(invalid(f"{at}.maxFailedIndexes", failed, few))
    return errors


def _quoted(words: tuple[str, ...]) -> str:
    return "valid values: [" + " ".join(f'"{w}"' for w in words) + "]"


def _failure_policy(at: str, policy: Object, spec: Object) -> list[FieldError]:
    rules = items(policy, "rules")
    errors = [too_many(f"{at}.rules", len(rules), 20)] if len(rules) > 20 else []
    pod = sub(spec, "template", "spec")
    known = {text(c, "name") for c in (*items(pod, "containers"), *items(pod, "initContainers"))}
    for index, rule in enumerate(rules):
        errors += _failure_rule(f"{at}.rules[{index}]", rule, spec, known)
    return errors


def _failure_rule(at: str, rule: Object, spec: Object, known: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    action = text(rule, "action")
    if not action:
        errors.append(required(f"{at}.action", _quoted(_ACTIONS)))
    elif action == "FailIndex":
        if spec.get("backoffLimitPerIndex") is None:
            errors.append(invalid(f"{at}.action", action, "requires the backoffLimitPerIndex to be set"))
    elif action not in _ACTIONS:
        errors.append(unsupported(f"{at}.action", action, _ACTIONS))
    codes, conditions = dictionary(rule, "onExitCodes"), items(rule, "onPodConditions")
    if codes is not None:
        errors += _exit_codes(f"{at}.onExitCodes", codes, known)
    if conditions:
        errors += _conditions(f"{at}.onPodConditions", conditions)
    if codes is not None and conditions:
        errors.append(invalid(at, OMIT, "specifying both OnExitCodes and OnPodConditions is not supported"))
    elif codes is None and not conditions:
        errors.append(invalid(at, OMIT, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _exit_codes(at: str, codes: Object, known: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, listed = text(codes, "operator"), [v for v in values(codes, "values") if isinstance(v, int)]
    if not operator:
        errors.append(required(f"{at}.operator", _quoted(("In", "NotIn"))))
    elif operator not in ("In", "NotIn"):
        errors.append(unsupported(f"{at}.operator", operator, ("In", "NotIn")))
    container = codes.get("containerName")
    if isinstance(container, str) and container not in known:
        detail = "must be one of the container or initContainer names in the pod template"
        errors.append(invalid(f"{at}.containerName", container, detail))
    if not listed:
        return [*errors, invalid(f"{at}.values", None, "at least one value is required")]
    if len(listed) > 255:
        errors.append(too_many(f"{at}.values", len(listed), 255))
    seen: set[int] = set()
    for index, code in enumerate(listed):
        if operator == "In" and code == 0:
            errors.append(invalid(f"{at}.values[{index}]", code, "must not be 0 for the In operator"))
        if code in seen:
            errors.append(repeated(f"{at}.values[{index}]", code))
        seen.add(code)
    if listed != sorted(listed):
        errors.append(invalid(f"{at}.values", listed, "must be ordered"))
    return errors


def _conditions(at: str, conditions: list[Object]) -> list[FieldError]:
    errors = [too_many(at, len(conditions), 20)] if len(conditions) > 20 else []
    allowed = ("False", "True", "Unknown")
    for index, pattern in enumerate(conditions):
        errors += check_names(f"{at}[{index}].type", text(pattern, "type"), names.qualified_name)
        status = text(pattern, "status")
        if not status:
            errors.append(required(f"{at}[{index}].status", _quoted(allowed)))
        elif status not in allowed:
            errors.append(unsupported(f"{at}[{index}].status", status, allowed))
    return errors


def _success_policy(at: str, policy: Object, completions: int) -> list[FieldError]:
    rules = items(policy, "rules")
    if not rules:
        detail = "at least one rules must be specified when the successPolicy is specified"
        return [required(f"{at}.rules", detail)]
    errors = [too_many(f"{at}.rules", len(rules), 20)] if len(rules) > 20 else []
    for index, rule in enumerate(rules):
        errors += _success_rule(f"{at}.rules[{index}]", rule, completions)
    return errors


def _success_rule(at: str, rule: Object, completions: int) -> list[FieldError]:
    errors: list[FieldError] = []
    indexes, count = rule.get("succeededIndexes"), integer(rule, "succeededCount")
    if indexes is None and count is None:
        errors.append(required(at, "at least one of succeededCount or succeededIndexes must be specified"))
    total = 0
    if isinstance(indexes, str):
        where = f"{at}.succeededIndexes"
        if len(indexes) > 64 * 1024:
            errors.append(too_long(where, 64 * 1024))
        found = intervals(indexes, completions)
        if isinstance(found, str):
            errors.append(invalid(where, indexes, f"error parsing succeededIndexes: {found}"))
        else:
            total = sum(last - first + 1 for first, last in found)
    if count is None:
        return errors
    where = f"{at}.succeededCount"
    errors += not_negative(where, count)
    if count > completions:
        detail = f"must be less than or equal to {completions} (the number of specified completions)"
        errors.append(invalid(where, count, detail))
    if isinstance(indexes, str) and count > total:
        detail = (
            f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        )
        errors.append(invalid(where, count, detail))
    return errors


def _replacement(at: str, spec: Object) -> list[FieldError]:
    policy = spec.get("podReplacementPolicy")
    if not isinstance(policy, str):
        return []
    if spec.get("podFailurePolicy") is not None:
        return [] if policy == "Failed" else [unsupported(at, policy, ("Failed",))]
    allowed = ("Failed", "TerminatingOrFailed")
    return [] if policy in allowed else [unsupported(at, policy, allowed)]


def job_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a Job: upstream looks at it as at a new one first, and then once more."""
    after, before = sub(new, "spec"), sub(old, "spec")
    errors = job(new) + job_spec("spec", after)
    errors += _completions_update(after, before)
    errors += must_equal("spec.selector", after.get("selector"), before.get("selector"))
    errors += template_update(after, before, sub(old, "status"))
    errors += must_equal("spec.completionMode", after.get("completionMode"), before.get("completionMode"))
    for key in ("podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
        errors += must_equal(f"spec.{key}", after.get(key), before.get(key))
    return errors


def _completions_update(after: Object, before: Object) -> list[FieldError]:
    """Completions of an indexed Job may change with its parallelism (elastic Jobs)."""
    now, was = integer(after, "completions"), integer(before, "completions")
    if now == was:
        return []
    if text(after, "completionMode") != INDEXED:
        return [invalid("spec.completions", now, "field is immutable")]
    if now is None or now == integer(after, "parallelism"):
        return []  # that it is missing is told by the rules for new ones
    detail = "can only be modified in tandem with spec.parallelism"
    return [invalid("spec.completions", now, detail)]


def cron_job(obj: Object) -> list[FieldError]:
    """A new CronJob: its name must leave room for those of its Jobs."""
    errors = cron_spec("spec", sub(obj, "spec"))
    if len(name_of(obj)) > 52:
        errors.append(invalid("metadata.name", name_of(obj), "must be no more than 52 characters"))
    return errors


def cron_spec(at: str, spec: Object, before: Object | None = None) -> list[FieldError]:
    """The spec of a CronJob."""
    errors: list[FieldError] = []
    wanted = text(spec, "schedule")
    if not wanted:
        errors.append(required(f"{at}.schedule"))
    else:
        zone = spec.get("timeZone")
        known = before is not None and "TZ" in text(before, "schedule")
        errors += schedule(f"{at}.schedule", wanted, has_zone=isinstance(zone, str), known=known)
    errors += not_negative(f"{at}.startingDeadlineSeconds", spec.get("startingDeadlineSeconds"))
    if spec.get("timeZone") is not None and (before is None or before.get("timeZone") != spec["timeZone"]):
        errors += time_zone(f"{at}.timeZone", spec["timeZone"])
    policy = text(spec, "concurrencyPolicy")
    if not policy:
        errors.append(required(f"{at}.concurrencyPolicy"))
    elif policy not in ("Allow", "Forbid", "Replace"):
        errors.append(unsupported(f"{at}.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace")))
    errors += _job_template(f"{at}.jobTemplate", sub(spec, "jobTemplate"))
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += not_negative(f"{at}.{key}", spec.get(key))
    return errors


def _job_template(at: str, template: Object) -> list[FieldError]:
    spec = sub(template, "spec")
    errors = _common(f"{at}.spec", spec)
    # Each Job chooses its own selector.
    if isinstance(spec.get("selector"), dict):
        errors.append(invalid(f"{at}.spec.selector", spec["selector"], "`selector` will be auto-generated"))
    if flag(spec, "manualSelector"):
        errors.append(unsupported(f"{at}.spec.manualSelector", True, ("nil", "false")))
    return errors


def cron_job_update(new: Object, old: Object) -> list[FieldError]:
    """A change of a CronJob."""
    return cron_spec("spec", sub(new, "spec"), sub(old, "spec"))
