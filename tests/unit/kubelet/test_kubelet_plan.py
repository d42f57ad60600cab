"""The next steps for a pod: from its spec, what runs, and what probes say."""

from __future__ import annotations

from typing import Any

import pytest
from kubelet_values import container, ended, pod, ran, runtime, sandbox

from agent.kubelet.container.identity import container_hash
from agent.kubelet.container.model import CREATED, UNKNOWN
from agent.kubelet.pods import restart
from agent.kubelet.pods.plan import LIVENESS_PROBE, RESIZE, STARTUP_PROBE, Kill, Plan, ProbeVerdicts, plan_pod

QUIET = ProbeVerdicts()


def names(containers: Any) -> list[str]:
    return [c["name"] for c in containers]


def sidecar(name: str, **fields: Any) -> Any:
    return container(name, restartPolicy="Always", **fields)


def test_a_new_pod_gets_a_sandbox_and_its_first_init_container_or_all_apps() -> None:
    plan = plan_pod(pod(container("a"), container("b")), runtime(sandboxes=()), QUIET)
    assert (plan.create_sandbox, plan.sandbox_changed, names(plan.start)) == (True, False, ["a", "b"])
    plan = plan_pod(pod(container("a"), initContainers=[container("i"), container("j")]), runtime(sandboxes=()), QUIET)
    assert (names(plan.init), names(plan.start)) == (["i"], [])


def test_nothing_to_do_for_what_runs() -> None:
    assert plan_pod(pod(), runtime(ran("c", hash=container_hash(container()))), QUIET).is_empty


def test_init_containers_follow_each_other_and_apps_follow_them() -> None:
    wanted = pod(container("a"), initContainers=[container("i"), container("j")])
    assert names(plan_pod(wanted, runtime(), QUIET).init) == ["i"]
    assert plan_pod(wanted, runtime(ran("i")), QUIET).is_empty
    assert names(plan_pod(wanted, runtime(ended("i")), QUIET).init) == ["j"]
    plan = plan_pod(wanted, runtime(ended("j"), ended("i")), QUIET)
    assert (names(plan.init), names(plan.start)) == ([], ["a"])


def test_failed_init_container_is_tried_again_unless_never() -> None:
    wanted = pod(container("a"), initContainers=[container("i")])
    assert names(plan_pod(wanted, runtime(ended("i", 1)), QUIET).init) == ["i"]
    wanted["spec"]["restartPolicy"] = "Never"
    assert plan_pod(wanted, runtime(ended("i", 1)), QUIET).kill_pod


def test_sidecar_lets_the_next_start_when_its_startup_probe_passed() -> None:
    wanted = pod(container("a"), initContainers=[sidecar("s", startupProbe={"tcpSocket": {"port": 1}}), container("i")])
    waits = ProbeVerdicts(startup=lambda _: None)
    passed = ProbeVerdicts(startup=lambda _: True)
    failed = ProbeVerdicts(startup=lambda _: False)
    seen = runtime(ran("s"))
    assert plan_pod(wanted, seen, waits).is_empty
    assert names(plan_pod(wanted, seen, passed).init) == ["i"]
    plan = plan_pod(wanted, seen, failed)
    assert (plan.kills[0].cause, names(plan.init)) == (STARTUP_PROBE, ["s"])


def test_dead_sidecar_starts_again_beside_running_apps() -> None:
    wanted = pod(container("a"), initContainers=[sidecar("s")])
    plan = plan_pod(wanted, runtime(ran("a"), ended("s", 0)), QUIET)
    assert (names(plan.init), names(plan.start), plan.kill_pod) == (["s"], [], False)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy(policy: str, code: int, again: bool) -> None:
    wanted = pod(container("a"), container("b"), restartPolicy=policy)
    plan = plan_pod(wanted, runtime(ran("b"), ended("a", code)), QUIET)
    assert names(plan.start) == (["a"] if again else [])


def test_container_restart_rules_count_before_the_pods_policy() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    own = container("a", restartPolicy="Never", restartPolicyRules=rules)
    wanted = pod(own, restartPolicy="Never")
    assert restart.restarts_after(wanted, own, 42)
    assert not restart.restarts_after(wanted, own, 1)
    other = [{"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}}]
    assert restart.restarts_after(wanted, container("a", restartPolicy="Never", restartPolicyRules=other), 7)


def test_pod_whose_containers_are_all_done_is_taken_down() -> None:
    assert plan_pod(pod(restartPolicy="Never"), runtime(ended("c")), QUIET) == Plan(kill_pod=True)


def test_failed_probe_and_changed_image_replace_a_container() -> None:
    failing = ProbeVerdicts(liveness=lambda _: False)
    plan = plan_pod(pod(), runtime(ran("c")), failing)
    assert plan.kills == (Kill(ran("c"), "Container c failed liveness probe, will be restarted", LIVENESS_PROBE),)
    plan = plan_pod(pod(), runtime(ran("c", hash="another")), QUIET)
    assert plan.kills[0].message == "Container c definition changed, will be restarted"
    never = plan_pod(pod(container("c"), container("d"), restartPolicy="Never"), runtime(ran("d"), ran("c")), failing)
    assert never.start == ()


def test_resize_restarts_what_has_to_restart() -> None:
    kill = Kill(ran("c"), "Container c resize requires restart", RESIZE)
    plan = plan_pod(pod(), runtime(ran("c")), ProbeVerdicts(restarts={"c-0": kill}))
    assert (plan.kills, names(plan.start)) == ((kill,), ["c"])


def test_lost_sandbox_is_made_again_with_everything_in_it() -> None:
    seen = runtime(ended("a", 137), ended("i"), sandboxes=(sandbox(0, ready=False),))
    plan = plan_pod(pod(container("a"), initContainers=[container("i")]), seen, QUIET)
    assert (plan.kill_pod, plan.create_sandbox, plan.attempt, names(plan.init)) == (True, True, 1, ["i"])
    # … but not for a pod that ran to its end, or may not run twice.
    done = pod(container("a"), restartPolicy="OnFailure")
    assert not plan_pod(done, runtime(ended("a", 0), sandboxes=(sandbox(0, ready=False),)), QUIET).create_sandbox
    never = pod(container("a"), restartPolicy="Never")
    assert not plan_pod(never, runtime(ended("a", 1), sandboxes=(sandbox(0, ready=False),)), QUIET).create_sandbox


def test_ephemeral_containers_start_once_and_wait_for_nobody() -> None:
    wanted = pod(container("a"), initContainers=[container("i")], ephemeralContainers=[container("e")])
    assert names(plan_pod(wanted, runtime(ran("i")), QUIET).ephemeral) == ["e"]
    assert plan_pod(wanted, runtime(ended("e", 1), ran("i")), QUIET).ephemeral == ()


def test_unknown_and_half_made_containers_are_started_again() -> None:
    plan = plan_pod(pod(), runtime(ran("c", UNKNOWN)), QUIET)
    assert (len(plan.kills), names(plan.start)) == (1, ["c"])
    assert names(plan_pod(pod(), runtime(ran("c", CREATED)), QUIET).start) == ["c"]


@pytest.mark.parametrize(("policy", "killed"), [("Always", ["i"]), ("OnFailure", ["i"]), ("Never", [])])
def test_an_init_container_that_nobody_knows_of_ends_a_pod_that_may_not_try_again(
    policy: str, killed: list[str]
) -> None:
    plan = plan_pod(
        pod(container("a"), initContainers=[container("i")], restartPolicy=policy), runtime(ran("i", UNKNOWN)), QUIET
    )
    assert ([k.container.name for k in plan.kills], names(plan.init), plan.kill_pod) == (killed, killed, not killed)


@pytest.mark.parametrize("reason", ["changed", "liveness", "resize"])
def test_a_sidecar_that_is_replaced_once_it_has_started_holds_nobody_up(reason: str) -> None:
    wanted = pod(container("a"), initContainers=[sidecar("s", startupProbe={"tcpSocket": {"port": 1}})])
    there = ran("s", hash="another" if reason == "changed" else "")
    restarts = {there.id: Kill(there, "resized", RESIZE)} if reason == "resize" else {}
    liveness = reason != "liveness"
    started = ProbeVerdicts(lambda _: True, lambda _: liveness, restarts)
    plan = plan_pod(wanted, runtime(there), started)
    assert (len(plan.kills), names(plan.init), names(plan.start)) == (1, ["s"], ["a"])
    # … and is left alone while its startup probe goes on.
    assert plan_pod(wanted, runtime(there), ProbeVerdicts(lambda _: None, lambda _: liveness, restarts)).is_empty


def test_where_all_has_ended_apps_wait_for_their_sidecars_again() -> None:
    wanted = pod(container("a"), initContainers=[container("i"), sidecar("s")])
    plan = plan_pod(wanted, runtime(ended("a"), ended("s"), ended("i")), QUIET)
    assert (names(plan.init), names(plan.start)) == (["s"], [])
    assert names(plan_pod(wanted, runtime(ended("a"), ran("s"), ended("i")), QUIET).start) == ["a"]


def test_rules_for_exit_codes_say_nothing_of_what_still_runs() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    own = container("c", restartPolicy="Never", restartPolicyRules=rules)
    failing = ProbeVerdicts(liveness=lambda id_: not id_.startswith("c"))
    plan = plan_pod(pod(own, container("d")), runtime(ran("d"), ran("c")), failing)
    assert (plan.kills[0].message, names(plan.start)) == ("Container c failed liveness probe", [])
