"""Reports about Jobs: a finished Job stays finished, and its counters agree with its conditions.

A rule that a stored status already breaks is applied only when what it is about changes.

Source: pkg/apis/batch/validation/validation.go (ValidateJobStatusUpdate), pkg/registry/batch/job/strategy.go.
"""

from __future__ import annotations

from typing import Final

from controlplane.apiserver.registry.objects import flag, integer, items, number, sub, text, values
from controlplane.apiserver.registry.validation.job_indexes import INDEXED, common, intervals
from controlplane.apiserver.registry.validation.parts import not_negative, repeated
from machinery.api.fielderror import OMIT, FieldError, invalid, required
from machinery.api.meta import Object, parse_time

_CONDITIONS: Final = "status.conditions"
_COUNTERS: Final = ("active", "succeeded", "failed", "ready", "terminating")
_TERMINAL: Final = ("Failed", "Complete", "FailureTarget")


class _Status:
    """A Job's status, read."""

    def __init__(self, job: Object) -> None:
        self.status = sub(job, "status")
        true = {text(c, "type") for c in items(self.status, "conditions") if text(c, "status") == "True"}
        self.true = frozenset(true)
        self.complete, self.failed = "Complete" in true, "Failed" in true
        self.finished = self.complete or self.failed
        self.met, self.target = "SuccessCriteriaMet" in true, "FailureTarget" in true
        self.uncounted = sub(self.status, "uncountedTerminatedPods")


def job_status(new: Object, old: Object) -> list[FieldError]:
    """A report about a Job."""
    spec, now, was = sub(new, "spec"), _Status(new), _Status(old)
    errors = [e for key in _COUNTERS for e in not_negative(f"status.{key}", now.status.get(key))]
    errors += _uncounted(now.uncounted)
    errors += _contradictions(now, was) + _times(now, was) + _ended(now, was)
    errors += _indexes(spec, now.status, was.status)
    errors += _late(now, was) + _success(spec, now)
    return errors + _transitions(spec, now, was)


def _uncounted(found: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for key in ("succeeded", "failed"):
        for index, uid in enumerate(values(found, key)):
            at = f"status.uncountedTerminatedPods.{key}[{index}]"
            if not uid:
                errors.append(invalid(at, uid, "must not be empty"))
            elif uid in seen:
                errors.append(repeated(at, uid))
            seen.add(uid)
    return errors


def _conditions(told: str) -> FieldError:
    return invalid(_CONDITIONS, OMIT, told)


def _contradictions(now: _Status, was: _Status) -> list[FieldError]:
    errors: list[FieldError] = []
    complete_changed = now.complete != was.complete
    if now.complete and now.failed and (complete_changed or now.failed != was.failed):
        errors.append(_conditions("cannot set Complete=True and Failed=true conditions"))
    if now.complete and now.target and (complete_changed or now.target != was.target):
        errors.append(_conditions("cannot set Complete=True and FailureTarget=true conditions"))
    return errors


def _times(now: _Status, was: _Status) -> list[FieldError]:
    start, end = text(now.status, "startTime"), text(now.status, "completionTime")
    start_changed, end_changed = (
        text(now.status, key) != text(was.status, key) for key in ("startTime", "completionTime")
    )
    at = "status.completionTime"
    errors: list[FieldError] = []
    if now.complete != was.complete or end_changed:
        if end and not now.complete:
            told = "cannot set completionTime when there is no Complete=True condition"
            errors.append(invalid(at, end, told))
        if not end and now.complete:
            errors.append(required(at, "completionTime is required for Complete jobs"))
    if (start_changed or end_changed) and start and end and parse_time(end) < parse_time(start):
        errors.append(invalid(at, end, "completionTime cannot be set before startTime"))
    return errors


def _ended(now: _Status, was: _Status) -> list[FieldError]:
    errors: list[FieldError] = []
    if now.failed and not now.target and (now.failed != was.failed or now.target != was.target):
        told = "cannot set Failed=True condition without the FailureTarget=true condition"
        errors.append(_conditions(told))
    if now.complete and not now.met and (now.complete != was.complete or now.met != was.met):
        told = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        errors.append(_conditions(told))
    if not now.finished:
        return errors
    just = now.finished != was.finished
    active = number(now.status, "active")
    if active > 0 and (just or active != number(was.status, "active")):
        errors.append(invalid("status.active", active, "active>0 is invalid for finished job"))
    start = text(now.status, "startTime")
    if not start and (just or start != text(was.status, "startTime")):
        errors.append(required("status.startTime", "startTime is required for finished job"))
    if any(now.uncounted.values()) and (just or now.uncounted != was.uncounted):
        shown = {"Succeeded": now.uncounted.get("succeeded"), "Failed": now.uncounted.get("failed")}
        told = "uncountedTerminatedPods needs to be empty for finished job"
        errors.append(invalid("status.uncountedTerminatedPods", shown, told))
    return errors


def _indexes(spec: Object, now: Object, was: Object) -> list[FieldError]:
    completed, failed = text(now, "completedIndexes"), now.get("failedIndexes")
    completed_changed = completed != text(was, "completedIndexes")
    failed_changed = failed != was.get("failedIndexes")
    completions = integer(spec, "completions")
    errors: list[FieldError] = []
    done = intervals(completed, completions or 0)
    lost = intervals(failed if isinstance(failed, str) else "", completions or 0)
    if completed_changed and completions is not None and isinstance(done, str):
        told = f"error parsing completedIndexes: {done}"
        errors.append(invalid("status.completedIndexes", completed, told))
    per_index = spec.get("backoffLimitPerIndex") is not None
    if failed_changed and completions is not None and per_index and isinstance(lost, str):
        errors.append(invalid("status.failedIndexes", failed, f"error parsing failedIndexes: {lost}"))
    if completed_changed and completed and text(spec, "completionMode") != INDEXED:
        told = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(invalid("status.completedIndexes", completed, told))
    if failed_changed and failed is not None and not per_index:
        told = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(invalid("status.failedIndexes", failed, told))
    if (completed_changed or failed_changed) and completions is not None and failed is not None:
        both = None if isinstance(done, str) or isinstance(lost, str) else common(done, lost)
        if both is not None:
            told = f"failedIndexes and completedIndexes overlap at index: {both}"
            errors.append(invalid("status.failedIndexes", failed, told))
    return errors


def _late(now: _Status, was: _Status) -> list[FieldError]:
    errors: list[FieldError] = []
    terminating, ready = integer(now.status, "terminating"), integer(now.status, "ready")
    ending_changed = terminating != integer(was.status, "terminating") or now.finished != was.finished
    if ending_changed and terminating and now.finished:
        errors.append(invalid("status.terminating", terminating, "terminating>0 is invalid for finished job"))
    active = number(now.status, "active")
    changed = (ready, active) != (integer(was.status, "ready"), number(was.status, "active"))
    if changed and ready is not None and ready > active:
        errors.append(invalid("status.ready", ready, "cannot set more ready pods than active"))
    return errors


def _success(spec: Object, now: _Status) -> list[FieldError]:
    errors: list[FieldError] = []
    if now.met and now.failed:
        errors.append(_conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"))
    if now.met and now.target:
        errors.append(_conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"))
    if spec.get("successPolicy") is not None and now.complete and not now.met:
        told = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        errors.append(_conditions(told))
    return errors


def _transitions(spec: Object, now: _Status, was: _Status) -> list[FieldError]:
    errors = [
        _conditions(f"cannot disable the terminal {kind}=True condition")
        for kind in _TERMINAL
        if kind in was.true and kind not in now.true
    ]
    elastic = text(spec, "completionMode") == INDEXED and integer(spec, "completions") == integer(spec, "parallelism")
    for key in ("failed", "succeeded"):
        count = number(now.status, key)
        if count < number(was.status, key) and not (key == "succeeded" and elastic):
            errors.append(invalid(f"status.{key}", count, f"cannot decrease the {key} counter"))
    end, ended = text(now.status, "completionTime"), text(was.status, "completionTime")
    if end and ended and end != ended:
        errors.append(invalid("status.completionTime", end, "completionTime cannot be mutated"))
    start, started = text(now.status, "startTime"), text(was.status, "startTime")
    if started and start != started and not flag(spec, "suspend"):
        told = "field is immutable for unsuspended job once set"
        errors.append(invalid("status.startTime", start or None, told))
    if was.met and not now.met:
        errors.append(_conditions("cannot disable the SuccessCriteriaMet=True condition"))
    if was.complete and not was.met and now.met:
        errors.append(_conditions("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"))
    return errors
