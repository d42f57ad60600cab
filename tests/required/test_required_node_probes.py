"""What the conformance suite requires of probes ([sig-node] Probing container).

Where a container must not be restarted, the test waits for as many probes as upstream's four minutes have: one a second.
"""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, has_condition, is_ready, pod, requirement, shell, shows
from components import python
from statuses import container_statuses, restarts, told
from watching import watching

from machinery.api import meta
from machinery.api.catalogue import PODS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

_QUICK = {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1}
_PROBES = 24
_DELAY = 10
_SERVE = "exec httpd -f -vv -p 8080 -h /tmp"
_EXEC = {"exec": {"command": ["sh", "-c", "echo probed > /proc/1/fd/1; cat /tmp/health"]}}
_HTTP = {"httpGet": {"path": "/healthz", "port": 8080}}
_TCP = {"tcpSocket": {"port": 8080}}

_GRPC_SERVER = r"""
import grpc
from concurrent.futures import ThreadPoolExecutor

class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, request, context):
        print("probed", flush=True)
        return b"\x08\x01"  # status: SERVING

server = grpc.server(ThreadPoolExecutor(2), handlers=[Health()])
server.add_insecure_port("[::]:5000")
server.start()
server.wait_for_termination()
"""


def _always(*containers: Object) -> Object:
    return pod("probed", *containers, restartPolicy="Always")


async def _is_kept(cluster: Cluster, made: Object, mark: str) -> None:
    """It is probed, again and again, and not restarted; it is ready all the while."""
    await cluster.create(PODS, _always(made))
    await cluster.pod_that("probed", is_ready, "ready")
    await told(cluster, "probed", mark, _PROBES)
    found = await cluster.get(PODS, "probed")
    assert (restarts(found), is_ready(found)) == (0, True)


@pytest.mark.parametrize(
    ("probe", "script", "mark"),
    [
        shows(
            _EXEC,
            "echo ok > /tmp/health; sleep 600",
            "probed",
            name='[sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe [NodeConformance] [Conformance]',
        ),
        shows(
            _HTTP,
            f"echo ok > /tmp/healthz; {_SERVE}",
            "url:/healthz",
            name="[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe [NodeConformance] [Conformance]",
        ),
        shows(
            _TCP,
            "exec nc -ll -p 8080 -e sh -c 'echo connected > /proc/1/fd/1'",  # no answer that HTTP would take for one
            "connected",
            name="[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_container_is_not_restarted(cluster: Cluster, probe: Object, script: str, mark: str) -> None:
    await _is_kept(cluster, shell(script, livenessProbe={**probe, **_QUICK, "initialDelaySeconds": 2}), mark)


@requirement(
    "[sig-node] Probing container should *not* be restarted with a GRPC liveness probe [NodeConformance] [Conformance]"
)
async def test_server_of_health_is_not_restarted(cluster: Cluster) -> None:
    probe = {"grpc": {"port": 5000}, **_QUICK, "initialDelaySeconds": 10}
    await _is_kept(cluster, await python(cluster, _GRPC_SERVER, livenessProbe=probe), "probed")


@requirement(
    "[sig-node] Probing container should be restarted with a GRPC liveness probe [NodeConformance] [Conformance]"
)
async def test_server_of_health_is_restarted(cluster: Cluster) -> None:
    """It is asked on a port on which it does not listen."""
    probe = {"grpc": {"port": 2333}, **_QUICK, "initialDelaySeconds": 1}
    await cluster.create(PODS, _always(await python(cluster, _GRPC_SERVER, livenessProbe=probe)))
    await _is_restarted(cluster)


async def _is_restarted(cluster: Cluster, times: int = 1, seconds: float = 60) -> None:
    """The count of restarts never falls."""
    before = 0

    def so_often(found: Object) -> bool:
        nonlocal before
        count = restarts(found)
        assert count >= before
        before = count
        return count >= times

    found = await cluster.pod_that("probed", so_often, f"restarted {times} times", seconds=seconds)
    assert container_statuses(found)["c"]["lastState"]["terminated"]["exitCode"] != 0


def _dies(probe: dict[str, Any]) -> Object:
    """A container that is healthy for three seconds."""
    script = f"touch /tmp/health /tmp/healthz; (sleep 3; rm /tmp/health*) & {_SERVE}"
    return shell(script, livenessProbe={**probe, **_QUICK, "initialDelaySeconds": 1})


@pytest.mark.parametrize(
    "probe",
    [
        shows(
            _EXEC,
            name='[sig-node] Probing container should be restarted with a exec "cat /tmp/health" liveness probe [NodeConformance] [Conformance]',
        ),
        shows(
            _HTTP,
            name="[sig-node] Probing container should be restarted with a /healthz http liveness probe [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_container_is_restarted(cluster: Cluster, probe: dict[str, Any]) -> None:
    await cluster.create(PODS, _always(_dies(probe)))
    await _is_restarted(cluster)


@requirement(
    "[sig-node] Probing container should have monotonically increasing restart count [NodeConformance] [Conformance]"
)
@pytest.mark.timeout(360)
async def test_restarts_are_counted(cluster: Cluster) -> None:
    """Each restart but the first waits twice as long as the one before: 10 + 20 + 40 + 80 seconds in all."""
    await cluster.create(PODS, _always(_dies(_HTTP)))
    await _is_restarted(cluster, 5, seconds=300)


@requirement(
    "[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart [NodeConformance] [Conformance]"
)
async def test_not_ready_before_the_delay(cluster: Cluster) -> None:
    probe = {**_HTTP, **_QUICK, "initialDelaySeconds": _DELAY}
    await cluster.create(PODS, _always(shell(f"touch /tmp/healthz; {_SERVE}", readinessProbe=probe)))
    found = await cluster.pod_that("probed", is_ready, "ready")
    ready = meta.parse_time((meta.condition(found["status"]["conditions"], "Ready") or {})["lastTransitionTime"])
    began = meta.parse_time(container_statuses(found)["c"]["state"]["running"]["startedAt"])
    assert (ready - began).total_seconds() >= _DELAY
    assert restarts(found) == 0


@requirement(
    "[sig-node] Probing container with readiness probe that fails should never be ready and never restart [NodeConformance] [Conformance]"
)
async def test_never_ready(cluster: Cluster) -> None:
    async with watching(cluster, PODS, field_selector="metadata.name=probed") as watched:
        await cluster.create(PODS, _always(shell(_SERVE, readinessProbe={**_HTTP, **_QUICK})))
        await cluster.pod_that("probed", lambda found: found["status"].get("phase") == "Running", "running")
        await told(cluster, "probed", "url:/healthz", _PROBES)
        await cluster.delete(PODS, "probed")
        found = await watched.one("DELETED")
    assert not any(has_condition(event.object, kind) for event in watched.seen for kind in ("Ready", "ContainersReady"))
    assert not any(each["ready"] for event in watched.seen for each in container_statuses(event.object).values())
    assert restarts(found) == 0
