"""CronJobs. Time is told by one more CronJob beside the one that is looked at: what it has done has been due for both."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, eventually, pod, requirement, sleeper
from operations import Kind, operate
from workloads import belongs_to

from machinery.api.catalogue import CRONJOBS, JOBS
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture"]

SECONDS = 240


def _cron_job(name: str, policy: str, **spec: Any) -> Object:
    """Every minute a job that does not end by itself."""
    job = {
        "parallelism": 1,
        "completions": 1,
        "template": {"spec": pod(name, sleeper(), restartPolicy="OnFailure")["spec"]},
    }
    described = {"schedule": "*/1 * * * ?", "concurrencyPolicy": policy, "jobTemplate": {"spec": job}}
    return {"metadata": {"name": name}, "spec": described | spec}


async def _jobs(cluster: Cluster, cron_job: Object) -> list[Object]:
    """Its jobs that are not being deleted."""
    found = (await cluster.client.list(JOBS, cluster.namespace)).items
    return [each for each in found if belongs_to(each, cron_job) and "deletionTimestamp" not in each["metadata"]]


async def _active(cluster: Cluster, cron_job: Object, count: int) -> list[str]:
    """The names of its active jobs when there are that many."""

    def holds(found: Object) -> bool:
        return len(found.get("status", {}).get("active") or ()) == count

    found = await cluster.object_that(CRONJOBS, name_of(cron_job), holds, f"{count} active", seconds=SECONDS)
    return sorted(each["name"] for each in found["status"]["active"])


@requirement("[sig-apps] CronJob should schedule multiple jobs concurrently [Conformance]")
@pytest.mark.timeout(300)
async def test_allow(cluster: Cluster) -> None:
    made = await cluster.create(CRONJOBS, _cron_job("concurrent", "Allow"))
    active = await _active(cluster, made, 2)
    assert sorted(name_of(each) for each in await _jobs(cluster, made)) == active
    await cluster.delete(CRONJOBS, "concurrent")


@requirement("[sig-apps] CronJob should not schedule jobs when suspended [Slow] [Conformance]")
@pytest.mark.timeout(300)
async def test_suspended(cluster: Cluster) -> None:
    made = await cluster.create(CRONJOBS, _cron_job("suspended", "Allow", suspend=True))
    other = await cluster.create(CRONJOBS, _cron_job("beside", "Allow"))
    await _active(cluster, other, 2)
    assert await _jobs(cluster, made) == []
    assert "active" not in (await cluster.get(CRONJOBS, "suspended")).get("status", {})
    await cluster.delete(CRONJOBS, "suspended")


@requirement("[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow] [Conformance]")
@pytest.mark.timeout(300)
async def test_forbid(cluster: Cluster) -> None:
    made = await cluster.create(CRONJOBS, _cron_job("forbid", "Forbid"))
    other = await cluster.create(CRONJOBS, _cron_job("beside", "Allow"))
    active = await _active(cluster, made, 1)
    assert [name_of(each) for each in await _jobs(cluster, made)] == active
    await _active(cluster, other, 2)
    assert [name_of(each) for each in await _jobs(cluster, made)] == active
    assert await _active(cluster, made, 1) == active
    await cluster.delete(CRONJOBS, "forbid")


@requirement("[sig-apps] CronJob should replace jobs when ReplaceConcurrent [Conformance]")
@pytest.mark.timeout(300)
async def test_replace(cluster: Cluster) -> None:
    made = await cluster.create(CRONJOBS, _cron_job("replace", "Replace"))
    first = await _active(cluster, made, 1)
    assert [name_of(each) for each in await _jobs(cluster, made)] == first

    async def others() -> list[str]:
        return [name_of(each) for each in await _jobs(cluster, made) if name_of(each) not in first]

    second: list[str] = await eventually(others, "another job", SECONDS)
    assert len(second) == 1

    async def replaced() -> bool:
        return [name_of(each) for each in await _jobs(cluster, made)] == second

    await eventually(replaced, "the first job gone")
    assert await _active(cluster, made, 1) == second
    await cluster.delete(CRONJOBS, "replace")


@requirement("[sig-apps] CronJob should support CronJob API operations [Conformance]")
async def test_operations(cluster: Cluster) -> None:
    statuses = ({"lastScheduleTime": "2026-01-01T00:00:00Z"}, {"lastScheduleTime": "2026-01-01T01:00:00Z"})
    await operate(
        cluster,
        Kind(
            CRONJOBS,
            {"spec": _cron_job("any", "Allow", suspend=True)["spec"]},
            patch={"spec": {"concurrencyPolicy": "Forbid"}},
            update=lambda o: o["spec"].update(successfulJobsHistoryLimit=7),
            statuses=statuses,
        ),
    )
