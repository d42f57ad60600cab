"""What the conformance suite requires of containers that end: restarts, messages, init containers ([sig-node])."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cluster import Cluster, container, has_condition, is_ready, pod, requirement, shell, shows, sleeper
from statuses import INIT_CONTAINERS, container_statuses, restarts
from watching import watching

from machinery.api import meta
from machinery.api.catalogue import PODS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

_FALL_BACK = {"terminationMessagePolicy": "FallbackToLogsOnError", "terminationMessagePath": "/dev/termination-log"}
_OWN_PATH = {"terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 10000}}


@pytest.mark.parametrize(
    ("made", "phase", "message"),
    [
        shows(
            shell("echo -n DONE > /dev/termination-custom-log", **_OWN_PATH),
            "Succeeded",
            "DONE",
            name="[sig-node] Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path [NodeConformance] [Conformance]",
        ),
        shows(
            shell("echo -n DONE; false", **_FALL_BACK),
            "Failed",
            "DONE",
            name="[sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]",
        ),
        shows(
            shell("echo -n DONE; true", **_FALL_BACK),
            "Succeeded",
            "",
            name="[sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]",
        ),
        shows(
            shell("echo -n OK > /dev/termination-log; echo DONE; true", **_FALL_BACK),
            "Succeeded",
            "OK",
            name="[sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_termination_message(cluster: Cluster, made: Object, phase: str, message: str) -> None:
    ended = await cluster.run(pod("message", made))
    state = container_statuses(ended.pod)["c"]["state"]
    assert (ended.phase, list(state), state["terminated"].get("message", "")) == (phase, ["terminated"], message)
    await cluster.delete(PODS, "message")


_THIRD_STAYS = """
count=$(echo hello >> /restarts/count; wc -l < /restarts/count)
[ $count -eq 1 ] && exit 1
[ $count -eq 2 ] && exit 0
while true; do sleep 1; done
"""


@requirement(
    "[sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status [NodeConformance] [Conformance]"
)
async def test_restart_policies(cluster: Cluster) -> None:
    """A container that fails at first, ends well then, and stays the third time."""
    mounts = [{"name": "restarts", "mountPath": "/restarts"}]
    volumes = [{"name": "restarts", "emptyDir": {"medium": "Memory"}}]

    async def trial(policy: str, count: int, phase: str, state: str, ready: bool) -> None:
        name = policy.lower()
        made = pod(name, shell(_THIRD_STAYS, volumeMounts=mounts), volumes=volumes, restartPolicy=policy)
        await cluster.create(PODS, made)

        def as_expected(found: Object) -> bool:
            return restarts(found) == count and found["status"]["phase"] == phase and is_ready(found) == ready

        found = await cluster.pod_that(name, as_expected, f"{phase} after {count} restarts")
        assert list(container_statuses(found)["c"]["state"]) == [state]
        await cluster.delete(PODS, name)

    async with asyncio.TaskGroup() as trials:
        trials.create_task(trial("Always", 2, "Running", "running", True))
        trials.create_task(trial("OnFailure", 1, "Succeeded", "terminated", False))
        trials.create_task(trial("Never", 0, "Failed", "terminated", False))


def _initialized(*ends: str, last: Object, **spec: Any) -> Object:
    init = [container(end, name=f"init{number}") for number, end in enumerate(ends, 1)]
    return pod("initialized", last, initContainers=init, **spec)


_LIMITED: dict[str, Any] = {"name": "run1", "resources": {"limits": {"cpu": "100m"}}}


@pytest.mark.parametrize(
    ("policy", "last", "phase"),
    [
        shows(
            "Never",
            container("true", **_LIMITED),
            "Succeeded",
            name="[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartNever pod [Conformance]",
        ),
        shows(
            "Always",
            sleeper(**_LIMITED),
            "Running",
            name="[sig-node] InitContainer [NodeConformance] should invoke init containers on a RestartAlways pod [Conformance]",
        ),
    ],
)
async def test_init_containers_run_first(cluster: Cluster, policy: str, last: Object, phase: str) -> None:
    async with watching(cluster, PODS, field_selector="metadata.name=initialized") as watched:
        await cluster.create(PODS, _initialized("true", "true", last=last, restartPolicy=policy))
        found = await watched.one("MODIFIED", lambda seen: seen["status"]["phase"] == phase)
    _initialize_in_order([event.object for event in watched.seen])
    assert has_condition(found, "Initialized")
    statuses = container_statuses(found, INIT_CONTAINERS)
    assert list(statuses) == ["init1", "init2"]
    assert all(each["ready"] and each["state"]["terminated"]["exitCode"] == 0 for each in statuses.values())


def _initialize_in_order(seen: list[Object]) -> None:
    """As long as init containers have not ended well, no container behind them has begun."""
    for found in seen:
        statuses = [
            *container_statuses(found, INIT_CONTAINERS).values(),
            *container_statuses(found).values(),
        ]
        behind = False
        for each in statuses:
            if behind:
                assert each["state"].get("waiting", {}).get("reason") == "PodInitializing", found["status"]
                assert (each["ready"], each["restartCount"], each.get("containerID", "")) == (False, 0, "")
            ended = each["state"].get("terminated")
            behind = behind or ended is None or ended["exitCode"] != 0


@requirement(
    "[sig-node] InitContainer [NodeConformance] should not start app containers and fail the pod if init containers fail on a RestartNever pod [Conformance]"
)
async def test_failed_init_container_fails_the_pod(cluster: Cluster) -> None:
    async with watching(cluster, PODS, field_selector="metadata.name=initialized") as watched:
        await cluster.create(PODS, _initialized("true", "false", last=container("true", **_LIMITED)))
        found = await watched.one("MODIFIED", lambda seen: seen["status"]["phase"] == "Failed")
    _initialize_in_order([event.object for event in watched.seen])
    initialized = meta.condition(found["status"]["conditions"], "Initialized") or {}
    told = initialized["status"], initialized["reason"], initialized["message"]
    assert told == ("False", "ContainersNotInitialized", "containers with incomplete status: [init2]")
    first, second = container_statuses(found, INIT_CONTAINERS).values()
    assert (first["ready"], first["state"]["terminated"]["exitCode"]) == (True, 0)
    assert (second["ready"], second["state"]["terminated"]["exitCode"]) == (False, 1)
    assert container_statuses(found)["run1"]["state"]["waiting"]["reason"] == "PodInitializing"


@requirement(
    "[sig-node] InitContainer [NodeConformance] should not start app containers if init containers fail on a RestartAlways pod [Conformance]"
)
@pytest.mark.timeout(180)
async def test_failed_init_container_is_tried_again(cluster: Cluster) -> None:
    async with watching(cluster, PODS, field_selector="metadata.name=initialized") as watched:
        made = _initialized("false", "true", last=sleeper(**_LIMITED), restartPolicy="Always")
        await cluster.create(PODS, made)

        def tried(found: Object) -> bool:
            return int(container_statuses(found, INIT_CONTAINERS).get("init1", {}).get("restartCount", 0)) >= 3

        found = await watched.one("MODIFIED", tried, seconds=120)
    _initialize_in_order([event.object for event in watched.seen])
    assert found["status"]["phase"] == "Pending"
    initialized = meta.condition(found["status"]["conditions"], "Initialized") or {}
    told = initialized["status"], initialized["reason"], initialized["message"]
    assert told == ("False", "ContainersNotInitialized", "containers with incomplete status: [init1 init2]")
    assert len(container_statuses(found, INIT_CONTAINERS)) == 2
