"""Reports about Jobs."""

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import job_indexes
from controlplane.apiserver.registry.validation.job_status import job_status
from machinery.api.meta import Object

START, END = "2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z"


def job(*true: str, spec: Object | None = None, **status: Any) -> Object:
    conditions = [{"type": kind, "status": "True"} for kind in true]
    return {"metadata": {}, "spec": spec or {}, "status": {"conditions": conditions, **status}}


DONE = job("SuccessCriteriaMet", "Complete", startTime=START, completionTime=END)
INDEXED: Object = {"completionMode": "Indexed", "completions": 5, "parallelism": 2, "backoffLimitPerIndex": 1}


@pytest.mark.parametrize(
    ("new", "old", "told"),
    [
        (job(active=1, startTime=START), job(), []),
        (DONE, job("SuccessCriteriaMet", startTime=START), []),
        (job(active=-1), job(), ["status.active: Invalid value: -1: must be greater than or equal to 0"]),
        (
            job("SuccessCriteriaMet", "Complete"),
            job("SuccessCriteriaMet"),
            [
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.startTime: Required value: startTime is required for finished job",
            ],
        ),
        (
            job("Failed", startTime=START),
            job(startTime=START),
            [
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true "
                "condition"
            ],
        ),
        (
            job("FailureTarget", "Failed", startTime=START, active=1),
            job("FailureTarget", startTime=START, active=1),
            ["status.active: Invalid value: 1: active>0 is invalid for finished job"],
        ),
        (
            job(startTime=START),
            DONE,
            [
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ],
        ),
        (
            job(failed=1, succeeded=1),
            job(failed=2, succeeded=2),
            [
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
                "status.succeeded: Invalid value: 1: cannot decrease the succeeded counter",
            ],
        ),
        (
            job(startTime=END),
            job(startTime=START),
            [
                'status.startTime: Invalid value: "2020-01-01T01:00:00Z": '
                "field is immutable for unsuspended job once set"
            ],
        ),
        (job(spec={"suspend": True}, startTime=END), job(startTime=START), []),
        (
            job(completionTime=END),
            job(),
            [
                f'status.completionTime: Invalid value: "{END}": cannot set completionTime when there is no '
                "Complete=True condition"
            ],
        ),
        (
            job(ready=2, active=1),
            job(),
            ["status.ready: Invalid value: 2: cannot set more ready pods than active"],
        ),
        (
            job(completedIndexes="0"),
            job(),
            [
                'status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed '
                "completion mode"
            ],
        ),
        (
            job(spec=INDEXED, completedIndexes="0-2", failedIndexes="2,4"),
            job(spec=INDEXED),
            ['status.failedIndexes: Invalid value: "2,4": failedIndexes and completedIndexes overlap at index: 2'],
        ),
        (
            job(spec=INDEXED, completedIndexes="7"),
            job(spec=INDEXED),
            ['status.completedIndexes: Invalid value: "7": error parsing completedIndexes: too large index: "7"'],
        ),
        (
            job(uncountedTerminatedPods={"succeeded": ["a"], "failed": ["a", ""]}),
            job(),
            [
                'status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"',
                'status.uncountedTerminatedPods.failed[1]: Invalid value: "": must not be empty',
            ],
        ),
    ],
)  # fmt: skip
def test_a_report(new: Object, old: Object, told: list[str]) -> None:
    assert [str(error) for error in job_status(new, old)] == told


def test_rules_that_were_broken_before_are_not_applied_to_other_changes() -> None:
    broken = job("Failed", active=1)
    assert job_status({**broken, "status": {**broken["status"], "ready": 1}}, broken) == []


@pytest.mark.parametrize(
    ("indexes", "found"),
    [
        ("", []),
        ("1,3-5", [(1, 1), (3, 5)]),
        ("0-1999999998", [(0, 1999999998)]),
        ("3-1", "non-increasing order, previous: 3, current: 1"),
        ("2,2", "non-increasing order, previous: 2, current: 2"),
        ("x", 'cannot convert string to integer for index: "x"'),
    ],
)
def test_indexes(indexes: str, found: Any) -> None:
    assert job_indexes.intervals(indexes, 2_000_000_000) == found


@pytest.mark.parametrize(
    ("one", "other", "least"),
    [
        ([], [(1, 2)], None),
        ([(0, 1), (5, 9)], [(2, 3), (9, 9)], 9),
        ([(0, 3)], [(4, 4)], None),
        ([(1, 1)], [(0, 2)], 1),
    ],
)
def test_common_indexes(one: list[tuple[int, int]], other: list[tuple[int, int]], least: int | None) -> None:
    assert job_indexes.common(one, other) == least
