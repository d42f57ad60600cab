"""Which resizes a node can give, what has to restart for them, and what is remembered."""

from __future__ import annotations

from pathlib import Path

from kubelet_values import container, pod, ran, sized

from agent.kubelet.pods.allocation import Allocations, same
from agent.kubelet.pods.resize import changed_resources, needs_restart, refusal, summary
from machinery.api import quantity

NODE = {"cpu": quantity.parse("4"), "memory": quantity.parse("1Gi")}


def test_a_resize_is_possible_later_or_never() -> None:
    asks, other = pod(sized(requests={"cpu": "3"})), pod(sized(requests={"cpu": "2"}), name="other")
    assert refusal(asks, [asks], NODE) is None
    deferred = refusal(asks, [asks, other], NODE)
    assert deferred is not None
    assert deferred.reason == "Deferred"
    assert deferred.message == "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"
    never = refusal(pod(sized(requests={"memory": "2Gi"})), [], NODE)
    assert never is not None
    assert (never.reason, never.message) == (
        "Infeasible",
        "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824",
    )
    static = refusal(pod(metadata={"annotations": {"kubernetes.io/config.source": "file"}}), [], NODE)
    assert static is not None
    assert static.message == "In-place resize of static-pods is not supported"
    exclusive = refusal(asks, [], NODE, exclusive="because")
    assert exclusive is not None
    assert exclusive.message == "because"


def test_what_differs_and_what_restarts_for_it() -> None:
    before, after = {"requests": {"cpu": "1000m", "memory": "1Mi"}}, {"requests": {"cpu": "1", "memory": "2Mi"}}
    assert changed_resources(before, after) == {"memory"}
    assert same({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}})
    policies = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    assert needs_restart(container(resizePolicy=policies), {"memory"})
    assert not needs_restart(container(resizePolicy=policies), {"cpu"})
    assert not needs_restart(container(), {"cpu", "memory"})


def test_promises_outlive_the_kubelet(tmp_path: Path) -> None:
    first, more = pod(sized(requests={"cpu": "1"})), pod(sized(requests={"cpu": "2"}))
    running = ran("c")
    kept = Allocations(str(tmp_path))
    kept.admit(first)
    assert not kept.differs(first)
    assert kept.differs(more)
    assert kept.pod(more)["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "1"}}
    kept.resize(more, [running])
    again = Allocations(str(tmp_path))
    assert not again.differs(more)
    assert again.given_to(more, running) == {"requests": {"cpu": "1"}}
    again.give(running, {"requests": {"cpu": "2"}})
    assert Allocations(str(tmp_path)).given_to(more, running) == {"requests": {"cpu": "2"}}
    again.forget("uid-p", [running])
    assert Allocations(str(tmp_path)).given == {}


def test_the_summary_in_events_is_upstreams() -> None:
    wanted = pod(sized("c1", requests={"memory": "1Mi", "cpu": "1"}, limits={"cpu": "2"}))
    assert summary(wanted, error="no") == (
        '{"containers":[{"name":"c1","resources":{"limits":{"cpu":"2"},"requests":{"cpu":"1","memory":"1Mi"}}}],'
        '"generation":1,"error":"no"}'
    )
