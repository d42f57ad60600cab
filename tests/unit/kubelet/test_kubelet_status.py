"""What users see of a pod: phase, conditions, containers, and the patch that says only what has changed."""

from __future__ import annotations

from typing import Any

import pytest
from kubelet_values import container, ended, pod, ran, runtime, sandbox, sized

from agent.cri import api_pb2 as pb
from agent.kubelet.container.model import CREATED, UNKNOWN
from agent.kubelet.container.view import to_sandbox
from agent.kubelet.pods import conditions, statuspatch
from agent.kubelet.pods.containerstatus import Readiness, StatusInputs, Waiting
from agent.kubelet.pods.phase import phase_of
from agent.kubelet.pods.status import PodInputs, Verdict, not_yet_ended, pod_status, terminated
from machinery.api import meta
from machinery.api.meta import Object

NOW = "2026-01-01T00:00:00Z"


def status_of(wanted: Object, seen: Any = None, old: Object | None = None, **inputs: Any) -> Object:
    made: dict[str, Any] = {"containers": StatusInputs("containerd"), "host_ips": ("192.0.2.1",)} | inputs
    return pod_status(wanted, seen or runtime(sandboxes=()), old or {}, PodInputs(**made), NOW)


def condition(status: Object, kind: str) -> tuple[str, str]:
    found = meta.condition(status["conditions"], kind) or {}
    return found.get("status", ""), found.get("reason", "")


def test_a_pod_that_has_just_come() -> None:
    status = status_of(pod(container("a"), initContainers=[container("i")]))
    assert (status["phase"], status["qosClass"], status["startTime"]) == ("Pending", "BestEffort", NOW)
    assert status["hostIPs"] == [{"ip": "192.0.2.1"}]
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(status, "Initialized") == ("False", "ContainersNotInitialized")
    assert condition(status, "Ready") == ("False", "ContainersNotReady")
    assert condition(status, "PodReadyToStartContainers") == ("False", "")
    assert condition(status, "PodScheduled") == ("True", "")


def test_a_running_pod_is_ready() -> None:
    status = status_of(pod(), runtime(ran("c", started_at=10**9, image_ref="sha256:x")))
    shown = status["containerStatuses"][0]
    assert (status["phase"], status["podIP"], status["observedGeneration"]) == ("Running", "10.0.0.1", 1)
    assert (shown["ready"], shown["started"], shown["imageID"]) == (True, True, "sha256:x")
    assert shown["containerID"] == "containerd://c-0"
    assert shown["state"] == {"running": {"startedAt": "1970-01-01T00:00:01Z"}}
    assert condition(status, "Ready") == ("True", "")


def test_probes_and_gates_decide_about_readiness() -> None:
    unready = StatusInputs("containerd", readiness=Readiness(ready=lambda *_: False))
    status = status_of(pod(), runtime(ran("c")), containers=unready)
    assert (status["containerStatuses"][0]["ready"], condition(status, "ContainersReady")) == (
        False,
        ("False", "ContainersNotReady"),
    )
    gated = pod(readinessGates=[{"conditionType": "example.com/gate"}])
    assert condition(status_of(gated, runtime(ran("c"))), "Ready") == ("False", "ReadinessGatesNotReady")
    gated["status"] = {"conditions": [{"type": "example.com/gate", "status": "True"}]}
    assert condition(status_of(gated, runtime(ran("c"))), "Ready") == ("True", "")


def test_a_container_that_waits_says_why_and_how_it_ended_before() -> None:
    waiting = StatusInputs("containerd", {"c": Waiting("CrashLoopBackOff", "back-off 10s")})
    shown = status_of(pod(), runtime(ended("c", 3, reason="Error", count=2)), containers=waiting)["containerStatuses"][
        0
    ]
    assert shown["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert (shown["lastState"]["terminated"]["exitCode"], shown["restartCount"]) == (3, 2)


def test_a_container_that_vanished_is_told_as_ended() -> None:
    before = {
        "containerStatuses": [
            {"name": "c", "state": {"running": {"startedAt": NOW}}, "restartCount": 1, "lastState": {}}
        ]
    }
    shown = status_of(pod(), runtime(), before)["containerStatuses"][0]
    assert shown["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert (shown["lastState"]["terminated"]["exitCode"], shown["restartCount"]) == (137, 2)
    unknown = status_of(pod(), runtime(ran("c", UNKNOWN)), before)["containerStatuses"][0]
    assert unknown["state"]["terminated"]["exitCode"] == 137


def test_resources_show_what_is_given_and_what_is_promised() -> None:
    given = StatusInputs("containerd", given=lambda _: {"requests": {"cpu": "1"}})
    wanted = pod(sized(requests={"cpu": "2", "example.com/x": "1"}))
    shown = status_of(wanted, runtime(ran("c")), containers=given)["containerStatuses"][0]
    assert shown["resources"] == {"requests": {"cpu": "1", "example.com/x": "1"}}
    assert shown["allocatedResources"] == {"cpu": "2", "example.com/x": "1"}
    stopped = status_of(wanted, runtime(ran("c", CREATED)), containers=given)["containerStatuses"][0]
    assert stopped["resources"]["requests"]["cpu"] == "2"


@pytest.mark.parametrize(
    ("policy", "states", "phase"),
    [
        ("Always", [{"running": {"startedAt": NOW}}], "Running"),
        ("Always", [{"terminated": {"exitCode": 0}}], "Running"),
        ("OnFailure", [{"terminated": {"exitCode": 0}}], "Succeeded"),
        ("OnFailure", [{"terminated": {"exitCode": 1}}], "Running"),
        ("Never", [{"terminated": {"exitCode": 1}}, {"terminated": {"exitCode": 0}}], "Failed"),
        ("Never", [{"terminated": {"exitCode": 0}}, {"running": {"startedAt": NOW}}], "Running"),
        ("Always", [{"waiting": {}}, {"running": {"startedAt": NOW}}], "Pending"),
    ],
)
def test_phases(policy: str, states: list[Object], phase: str) -> None:
    names = [f"c{i}" for i in range(len(states))]
    wanted = pod(*(container(name) for name in names), restartPolicy=policy)
    statuses = [{"name": n, "state": s, "lastState": {}} for n, s in zip(names, states, strict=True)]
    assert phase_of(wanted, statuses, is_terminal=False, has_initialized=True) == phase


def test_a_verdict_is_final_and_keeps_its_words() -> None:
    verdict = Verdict(
        "Evicted", "The node was low on resource: memory. ", ({"type": "DisruptionTarget", "status": "True"},)
    )
    status = status_of(pod(), runtime(ran("c")), verdict=verdict)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", verdict.message)
    assert condition(status, "DisruptionTarget")[0] == "True"
    assert condition(status, "Ready") == ("False", "PodFailed")
    later = status_of({**pod(), "status": status}, runtime(ended("c", 0)), status, is_terminal=True)
    assert (later["phase"], later["reason"]) == ("Failed", "Evicted")


def test_while_something_runs_a_pod_has_not_ended() -> None:
    running = status_of(pod(), runtime(ran("c")))
    verdict = Verdict("Evicted", "why")
    failing = status_of(pod(), runtime(ran("c")), running, verdict=verdict)
    shown = not_yet_ended(failing, running)
    assert (shown["phase"], shown.get("reason")) == ("Running", None)
    assert condition(shown, "Ready") == ("False", "PodFailed")
    assert not_yet_ended(failing, failing) == failing, "what was told once stays"
    assert not_yet_ended(running, {}) == running


def test_what_ends_is_shown_as_ended_in_the_end() -> None:
    status = status_of(pod(), runtime(ran("c"), sandboxes=(sandbox(0, ready=False),)))
    final = terminated(pod(), status)
    assert final["phase"] == "Failed"
    assert final["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def waits(name: str, before: int | None = None) -> Object:
    last = {} if before is None else {"terminated": {"exitCode": before}}
    return {"name": name, "state": {"waiting": {}}, "lastState": last}


def done(name: str, code: int) -> Object:
    return {"name": name, "state": {"terminated": {"exitCode": code}}}


RUNS = {"name": "a", "state": {"running": {"startedAt": NOW}}}
LOST = "ContainerStatusUnknown"


@pytest.mark.parametrize(
    ("inits", "app", "inits_after", "app_after"),
    [
        ([], waits("a", 2), [], LOST),
        ([waits("i")], waits("a"), [LOST], "waiting"),
        ([waits("i"), waits("j")], waits("a"), [LOST, "waiting"], "waiting"),
        ([waits("i"), done("j", 1), waits("k")], waits("a"), [LOST, 1, "waiting"], "waiting"),
        ([waits("i"), done("j", 0)], waits("a"), [LOST, 0], LOST),
        ([waits("i"), waits("j", 0)], waits("a"), [LOST, LOST], LOST),
        ([waits("i")], RUNS, [LOST], LOST),
        ([waits("i")], done("a", 0), [LOST], 0),
    ],
    ids=["no init", "first init", "only the first", "a gap", "all init", "init before", "app runs", "app ended"],
)
def test_what_had_its_turn_is_shown_as_ended_in_the_end(
    inits: list[Object], app: Object, inits_after: list[object], app_after: object
) -> None:
    def shown(status: Object) -> object:
        ended = status["state"].get("terminated")
        return (ended.get("reason") or ended["exitCode"]) if ended else next(iter(status["state"]))

    wanted = pod(container("a"), initContainers=[container(s["name"]) for s in inits])
    final = terminated(wanted, {"phase": "Running", "initContainerStatuses": inits, "containerStatuses": [app]})
    assert [shown(s) for s in final.get("initContainerStatuses", [])] == inits_after
    assert [shown(s) for s in final["containerStatuses"]] == [app_after]
    assert final["phase"] == "Failed"


@pytest.mark.parametrize(("started", "app"), [(True, LOST), (False, "")])
def test_a_sidecar_that_has_started_was_the_last_to_wait_for(started: bool, app: str) -> None:
    wanted = pod(container("a"), initContainers=[container("s", restartPolicy="Always")])
    status = {
        "initContainerStatuses": [{**RUNS, "name": "s", "started": started}],
        "containerStatuses": [waits("a")],
    }
    state = terminated(wanted, status)["containerStatuses"][0]["state"]
    assert (state.get("terminated") or {}).get("reason", "") == app


def test_a_static_pods_phase_is_left_as_it_is() -> None:
    static = pod(metadata={"annotations": {"kubernetes.io/config.source": "file"}})
    assert terminated(static, {"phase": "Running", "containerStatuses": [waits("c")]})["phase"] == "Running"


def test_times_of_conditions_change_only_with_them() -> None:
    before = status_of(pod(), runtime(ran("c")))
    for entry in before["conditions"]:
        entry["lastTransitionTime"] = "2025-01-01T00:00:00Z"
    after = status_of(pod(), runtime(ran("c")), before)
    assert {c["lastTransitionTime"] for c in after["conditions"]} == {"2025-01-01T00:00:00Z"}
    gone = status_of(pod(), runtime(ended("c", 1)), before)
    assert (meta.condition(gone["conditions"], "Ready") or {})["lastTransitionTime"] == NOW


def test_long_termination_messages_are_cut() -> None:
    status = status_of(pod(), runtime(ended("c", 1, message="x" * 20000)))
    assert len(status["containerStatuses"][0]["state"]["terminated"]["message"]) == 12 * 1024


def test_the_patch_holds_what_changed_and_nothing_else() -> None:
    old = {
        "phase": "Pending",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "X"},
            {"type": "PodResizePending", "status": "True"},
            {"type": "example.com/other", "status": "True"},
        ],
    }
    new = {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "conditions": [{"type": "Ready", "status": "True"}]}
    assert statuspatch.between(old, new) == {
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.0.0.1", "$patch": "delete"}, {"ip": "10.0.0.2"}],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": None},
                {"type": "PodResizePending", "$patch": "delete"},
            ],
        }
    }
    assert statuspatch.between(new, {**new, "message": None}) == {}


def test_initialized_needs_every_init_container() -> None:
    wanted = pod(container("a"), initContainers=[container("i"), container("s", restartPolicy="Always")])
    statuses: list[Object] = [{"name": "i", "ready": True}, {"name": "s", "started": False}]
    told = conditions.initialized(wanted, statuses, "Pending")
    assert told["message"] == "containers with incomplete status: [s]"
    statuses[1]["started"] = True
    assert conditions.initialized(wanted, statuses, "Pending")["status"] == "True"


@pytest.mark.parametrize(
    ("found", "prefers_ipv6", "shown"),
    [
        (["10.0.0.1"], False, ("10.0.0.1",)),
        (["fd01::1234", "10.0.0.1"], False, ("10.0.0.1", "fd01::1234")),
        (["10.0.0.1", "fd01::1234"], True, ("fd01::1234", "10.0.0.1")),
        (["10.0.0.1"], True, ("10.0.0.1",)),
        (["fd01::1234"], False, ("fd01::1234",)),
        (["10.0.0.1", "10.0.0.2", "fd01::1234", "fd01::5678"], False, ("10.0.0.1", "fd01::1234")),
        (["fd01:0:0:0:0:0:0:1234", "none"], False, ("fd01::1234",)),
    ],
)
def test_a_pod_has_an_address_of_each_family_the_nodes_first(
    found: list[str], prefers_ipv6: bool, shown: tuple[str, ...]
) -> None:
    network = pb.PodSandboxNetworkStatus(ip=found[0], additional_ips=[pb.PodIP(ip=ip) for ip in found[1:]])
    assert to_sandbox(pb.PodSandboxStatus(network=network), prefers_ipv6=prefers_ipv6).ips == shown
