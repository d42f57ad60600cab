"""CronJobs: when, what, and what if it was missed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from controller_objects import ago, metadata

from controlplane.controllers.cronjob.plan import CronPlan, make_job, plan_cron, started
from controlplane.controllers.cronjob.schedule import latest, parse
from machinery.api.meta import Object, format_time
from machinery.testing.clock import EPOCH


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "2026-01-01 00:00:30", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01 00:15", "2026-01-01 00:30"),
        ("5/20 * * * *", "2026-01-01 00:26", "2026-01-01 00:45"),
        ("0 9-17/4 * * MON-FRI", "2026-01-02 17:00", "2026-01-05 09:00"),
        ("30 4 1,15 * 5", "2026-01-01 05:00", "2026-01-02 04:30"),  # the 1st and 15th, and every Friday
        ("30 4 13 * *", "2026-01-14 00:00", "2026-02-13 04:30"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("@monthly", "2026-01-15 00:00", "2026-02-01 00:00"),
        ("@every 90m", "2026-01-01 00:00", "2026-01-01 01:30"),
        ("0 0 ? * sun", "2026-01-01 00:00", "2026-01-04 00:00"),
    ],
)
def test_the_next_time(schedule: str, after: str, expected: str) -> None:
    assert parse(schedule).next(at(after)) == at(expected)


def test_a_day_that_never_comes() -> None:
    assert parse("0 0 31 2 *").next(EPOCH) is None


def test_time_zones_and_their_clock_changes() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert parse("0 6 * * *", berlin).next(at("2026-07-01 00:00")) == at("2026-07-01 04:00")
    # 02:30 does not exist on 29 March 2026 in Berlin
    assert parse("30 2 * * *", berlin).next(at("2026-03-28 12:00")) == at("2026-03-30 00:30")
    # and exists twice on 25 October: it happens once
    first = parse("30 2 * * *", berlin).next(at("2026-10-24 12:00"))
    assert first == at("2026-10-25 00:30")
    assert parse("30 2 * * *", berlin).next(first) == at("2026-10-26 01:30")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "minute out of range [0-59]: 60"),
        ("* * * * 7", "day of week out of range [0-6]: 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", "failed to parse int from x"),
        ("@often", "unrecognized descriptor: @often"),
    ],
)
def test_what_is_wrong_is_told(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse(schedule)


@pytest.mark.parametrize(
    ("schedule", "since", "expected"),
    [
        ("* * * * *", "2020-01-01 00:00", "2026-01-01 00:00"),
        ("0 12 1 6 *", "2020-01-01 00:00", "2025-06-01 12:00"),
        ("@every 1h", "2025-12-31 20:30", "2025-12-31 23:30"),
        ("0 * * * *", "2025-12-31 23:30", "2026-01-01 00:00"),
        ("30 * * * *", "2025-12-31 23:45", None),
    ],
)
def test_the_last_time_missed(schedule: str, since: str, expected: str | None) -> None:
    assert latest(parse(schedule), at(since), EPOCH) == (at(expected) if expected else None)


# -- CronJobs ------------------------------------------------------------------------------------------------------


def cron(status: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": metadata("backup", creationTimestamp=ago(90)),
        "spec": {
            "schedule": "* * * * *",
            "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"parallelism": 1}},
            **spec,
        },
        "status": status or {},
    }


def job(name: str, *, ended: str = "", began: float = 60) -> Object:
    status: Object = {"startTime": ago(began)}
    if ended:
        status["conditions"] = [{"type": ended, "status": "True", "lastTransitionTime": ago(began - 5)}]
    if ended == "Complete":
        status["completionTime"] = ago(began - 5)
    return {"metadata": metadata(name), "status": status}


def plan(c: Object, *jobs: Object, after: float = 0) -> CronPlan:
    return plan_cron(c, list(jobs), EPOCH + timedelta(seconds=after))


def reasons(made: CronPlan) -> list[str]:
    return [reason for _, reason, _ in made.events]


def ref(j: Object) -> Object:
    return {"name": j["metadata"]["name"], "uid": j["metadata"]["uid"]}


def test_what_is_due_starts_once() -> None:
    made = plan(cron(), after=10)
    assert made.start == EPOCH
    assert made.wait_seconds == pytest.approx(50.1)
    j = make_job(cron(), EPOCH)
    assert j["metadata"]["name"] == f"backup-{int(EPOCH.timestamp()) // 60}"
    assert j["metadata"]["labels"] == {"a": "b"}
    assert j["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] == "2026-01-01T00:00:00Z"
    status = started({}, {**j, "metadata": {**j["metadata"], "uid": "u"}}, EPOCH)
    assert status["lastScheduleTime"] == format_time(EPOCH)
    again = plan(cron(status), {**j, "metadata": {**j["metadata"], "uid": "u"}, "status": {}}, after=20)
    assert again.start is None


def test_nothing_before_the_first_time() -> None:
    fresh = cron()
    fresh["metadata"]["creationTimestamp"] = format_time(EPOCH)
    assert plan(fresh, after=10).start is None


def test_suspended() -> None:
    made = plan(cron(suspend=True))
    assert (made.start, made.wait_seconds) == (None, None)


def test_too_late_is_missed() -> None:
    made = plan(cron(startingDeadlineSeconds=5), after=10)
    assert made.start is None
    assert reasons(made) == ["MissSchedule"]


@pytest.mark.parametrize(
    ("policy", "starts", "replaces"), [("Allow", True, 0), ("Forbid", False, 0), ("Replace", True, 1)]
)
def test_concurrency(policy: str, starts: bool, replaces: int) -> None:
    running = job("backup-1")
    made = plan(cron({"active": [ref(running)]}, concurrencyPolicy=policy), running)
    assert (made.start is not None, len(made.replace)) == (starts, replaces)
    assert ("JobAlreadyActive" in reasons(made)) == (policy == "Forbid")


def test_accounts() -> None:
    done, unknown = job("done", ended="Complete", began=40), job("unknown")
    made = plan(cron({"active": [ref(done), {"name": "lost", "uid": "x"}]}), done, unknown)
    assert sorted(reasons(made)) == ["SawCompletedJob", "UnexpectedJob"]
    assert made.status["lastSuccessfulTime"] == ago(35)
    assert [r["name"] for r in made.missing] == ["lost"]


def test_history() -> None:
    jobs = [job("c1", ended="Complete", began=90), job("c2", ended="Complete", began=80), job("f1", ended="Failed")]
    assert [j["metadata"]["name"] for j in plan(cron(), *jobs).cleanup] == ["c1"]


@pytest.mark.parametrize(
    ("spec", "reason"), [({"schedule": "x"}, "UnparseableSchedule"), ({"timeZone": "Nowhere/None"}, "UnknownTimeZone")]
)
def test_bad_schedules_are_told(spec: dict[str, Any], reason: str) -> None:
    made = plan(cron(**spec))
    assert reasons(made) == [reason]
    assert made.start is None


def test_many_missed_times_are_told_and_the_last_one_starts() -> None:
    c = cron()
    c["metadata"]["creationTimestamp"] = ago(3600 * 24)
    made = plan(c, after=10)
    assert reasons(made) == ["TooManyMissedTimes"]
    assert made.start == EPOCH
