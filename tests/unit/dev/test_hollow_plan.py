"""What a hollow node reports of its pods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lab.dev.hollow.pods import EXIT_CODE, RUN_SECONDS, Place, plan
from machinery.api import meta
from machinery.api.meta import Object

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Place("10.64.0.1", "10.128.0.1")


def pod(*, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata: Object = {"name": "web", "namespace": "default", "uid": "u1", "annotations": annotations or {}}
    containers = [{"name": "c", "image": "web:1"}]
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": meta.format_time(NOW)}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "hollow-0", "containers": containers, "restartPolicy": "Always", **spec},
        "status": {"phase": "Pending", "conditions": [scheduled]},
    }


def reported(of: Object, seconds: float = 0) -> Object:
    """The pod after what is planned for it has been stored."""
    step = plan(of, PLACE, NOW + timedelta(seconds=seconds))
    assert step.status is not None
    return {**of, "status": step.status}


def conditions(of: Object) -> dict[str, str]:
    return {c["type"]: c["status"] for c in of["status"]["conditions"]}


def state(of: Object) -> str:
    return str(next(iter(of["status"]["containerStatuses"][0]["state"])))


def test_a_pod_runs_and_is_ready_at_once() -> None:
    running = reported(pod())
    status = running["status"]
    assert (status["phase"], status["podIP"], status["hostIP"]) == ("Running", "10.128.0.1", "10.64.0.1")
    assert set(conditions(running).values()) == {"True"}
    assert status["containerStatuses"][0]["ready"]


def test_nothing_is_said_twice() -> None:
    running = reported(pod())
    assert plan(running, PLACE, NOW + timedelta(hours=1)).status is None


def test_readiness_gates_are_waited_for() -> None:
    gated = reported(pod(readinessGates=[{"conditionType": "example.com/open"}]))
    assert conditions(gated)["ContainersReady"] == "True"
    assert conditions(gated)["Ready"] == "False"
    gated["status"]["conditions"].append({"type": "example.com/open", "status": "True"})
    assert conditions(reported(gated))["Ready"] == "True"


def test_a_deleted_pod_ends_and_goes() -> None:
    running = reported(pod())
    running["metadata"]["deletionTimestamp"] = meta.format_time(NOW)
    step = plan(running, PLACE, NOW)
    assert step.delete
    assert step.status is not None
    assert step.status["phase"] == "Succeeded"
    assert step.status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_pod_that_is_not_to_run_always_completes() -> None:
    running = reported(pod(restartPolicy="Never"))
    assert running["status"]["phase"] == "Running"
    assert plan(pod(restartPolicy="Never"), PLACE, NOW).again_seconds == 0
    done = reported(running)
    assert (done["status"]["phase"], state(done)) == ("Succeeded", "terminated")
    assert plan(done, PLACE, NOW).status is None


def test_a_failure_can_be_played() -> None:
    failing = pod(restartPolicy="Never", annotations={EXIT_CODE: "3", RUN_SECONDS: "5"})
    running = reported(failing)
    step = plan(running, PLACE, NOW + timedelta(seconds=2))
    assert (step.status, step.again_seconds) == (None, 3)
    failed = reported(running, seconds=5)
    assert failed["status"]["phase"] == "Failed"
    assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_a_failure_is_tried_again_where_the_policy_says_so() -> None:
    failing = pod(restartPolicy="OnFailure", annotations={EXIT_CODE: "3"})
    again = reported(reported(failing), seconds=1)
    assert again["status"]["phase"] == "Running"
    container = again["status"]["containerStatuses"][0]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 3


def test_init_containers_are_done_and_sidecars_run() -> None:
    init = [{"name": "i", "image": "i"}, {"name": "s", "image": "s", "restartPolicy": "Always"}]
    running = reported(pod(initContainers=init))
    done, sidecar = running["status"]["initContainerStatuses"]
    assert done["state"]["terminated"]["reason"] == "Completed"
    assert "running" in sidecar["state"]
    assert conditions(running)["Initialized"] == "True"
    assert running["status"]["phase"] == "Running"


def test_a_number_that_is_none_is_as_if_it_were_not_there() -> None:
    assert plan(pod(annotations={RUN_SECONDS: "soon"}), PLACE, NOW).again_seconds is None
