"""Metrics: what is counted, under which names."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import make_mocked_request
from kubelet_values import container, pod
from prometheus_client import REGISTRY

from agent.cri.figures import Operation
from agent.kubelet import metrics
from agent.kubelet.pods import spec
from agent.kubelet.pods.startup import Startup
from agent.kubelet.server.counting import counted, short_path
from machinery.api.meta import Object
from machinery.testing.clock import FakeClock


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_calls_of_the_runtime_are_counted_by_upstreams_names() -> None:
    before = value("kubelet_runtime_operations_errors_total", operation_type="run_podsandbox")
    with pytest.raises(ValueError, match="no"), Operation("RunPodSandbox").counted():
        raise ValueError("no")
    with Operation("ListContainers").counted():
        pass
    assert value("kubelet_runtime_operations_errors_total", operation_type="run_podsandbox") == before + 1
    assert value("kubelet_runtime_operations_total", operation_type="list_containers") >= 1
    assert value("kubelet_runtime_operations_duration_seconds_count", operation_type="list_containers") >= 1


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/exec/default/p/c", "exec"),
        ("/metrics/cadvisor", "metrics/cadvisor"),
        ("/pods/", "pods"),
        ("/stats/summary", "stats/summary"),
        ("/anything", "other"),
    ],
)
def test_requests_are_counted_by_what_they_ask_for(path: str, short: str) -> None:
    assert short_path(path) == short
    labels = {"method": "GET", "path": short, "server_type": "readonly", "long_running": str(short == "exec").lower()}
    before = value("kubelet_http_requests_total", **labels)
    with counted(make_mocked_request("GET", path), "readonly"):
        assert value("kubelet_http_inflight_requests", **labels) == 1
    assert value("kubelet_http_requests_total", **labels) == before + 1
    assert value("kubelet_http_inflight_requests", **labels) == 0


async def test_the_start_of_a_pod_is_counted_once() -> None:
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    wanted = pod(metadata={"creationTimestamp": "2026-01-01T00:00:00Z"})
    startup = Startup(wanted, clock)
    startup.began(wanted)
    ended = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:02Z"}
    status: Object = {
        "phase": "Running",
        "containerStatuses": [{"state": {"waiting": {}}}],
        "initContainerStatuses": [{"state": {"terminated": ended}}],
    }
    names = [f"kubelet_pod_start_{kind}duration_seconds_sum" for kind in ("", "total_", "sli_")]
    before = [value(name) for name in names]
    startup.seen(wanted, status, {})
    assert [value(name) for name in names] == before
    await clock.advance(10)
    status["containerStatuses"] = [{"state": {"running": {}}}]
    for _ in range(2):
        startup.seen(wanted, status, {"uid-p": 3.0})
    assert [value(name) - then for name, then in zip(names, before, strict=True)] == pytest.approx([10, 10, 5])


def test_what_metrics_call_things() -> None:
    assert [metrics.size_label(size) for size in (0, 10 << 20, 2 << 30, 200 << 30)] == [
        "0-10MB",
        "10MB-100MB",
        "1GB-5GB",
        "GT100GB",
    ]
    of_pod = pod(initContainers=[container("i")], ephemeralContainers=[container("e")])
    kinds = [spec.container_type(of_pod, container(name)) for name in "cie"]
    assert kinds == ["container", "init_container", "ephemeral_container"]
    assert spec.volume_plugin({"name": "a", "emptyDir": {}}) == "kubernetes.io/empty-dir"
    assert spec.volume_plugin({"name": "a", "configMap": {}}) == "kubernetes.io/configmap"
