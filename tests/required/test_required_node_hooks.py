"""What the conformance suite requires of containers' lifecycle hooks ([sig-node])."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster import Cluster, eventually, pod, requirement, shell, shows, sleeper
from statuses import told

from machinery.api.catalogue import PODS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]


def _exec(address: str, what: str) -> Object:
    return {"exec": {"command": ["sh", "-c", f"wget -qO- http://{address}:8080/{what}"]}}


def _http(address: str, what: str) -> Object:
    return {"httpGet": {"host": address, "port": 8080, "path": f"/{what}"}}


_POST, _PRE = "postStart", "preStop"


@pytest.mark.parametrize(
    ("when", "handler"),
    [
        shows(
            _POST,
            _exec,
            name="[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [NodeConformance] [Conformance]",
        ),
        shows(
            _POST,
            _http,
            name="[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly [NodeConformance] [Conformance]",
        ),
        shows(
            _PRE,
            _exec,
            name="[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly [NodeConformance] [Conformance]",
        ),
        shows(
            _PRE,
            _http,
            name="[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_hook_is_called(cluster: Cluster, when: str, handler: Callable[[str, str], Object]) -> None:
    serve = f"mkdir /www; touch /www/{when}; exec httpd -f -vv -p 8080 -h /www"
    server = await cluster.start(pod("server", shell(serve)))
    hook = handler(server["status"]["podIP"], when)
    made = pod("hooked", sleeper(lifecycle={when: hook}), terminationGracePeriodSeconds=15, restartPolicy="Always")
    await cluster.start(made)
    if when == _PRE:
        assert f"url:/{when}" not in await cluster.log("server")
        await cluster.delete(PODS, "hooked")
    await told(cluster, "server", f"url:/{when}", 1)


@requirement("[sig-node] PreStop should call prestop when killing a pod [Conformance]")
async def test_hook_tells_another_pod_that_this_one_ends(cluster: Cluster) -> None:
    """The other pod is asked through the API server what it was told."""
    write, read = '#!/bin/sh\ncat > /tmp/told; printf "\\n\\n"', '#!/bin/sh\nprintf "\\n"; cat /tmp/told || echo "{}"'
    script = "mkdir -p /www/cgi-bin && cd /www/cgi-bin"
    for name, text in (("write", write), ("read", read)):
        script += f"\nprintf '%s' '{text}' > {name}; chmod +x {name}"
    serve = f"{script}\nexec httpd -f -p 8080 -h /www"
    server = await cluster.start(pod("server", shell(serve, ports=[{"containerPort": 8080}])))
    data = '{"Source": "prestop"}'
    address = f"http://{server['status']['podIP']}:8080/cgi-bin/write"
    hook = {"exec": {"command": ["wget", "-O-", f"--post-data={data}", address]}}
    await cluster.start(pod("tester", sleeper(lifecycle={_PRE: hook}), terminationGracePeriodSeconds=30))
    assert await _told(cluster) == {}
    await cluster.delete(PODS, "tester")

    async def known() -> bool:
        return bool(await _told(cluster) == {"Source": "prestop"})

    await eventually(known, "the hook's word")


async def _told(cluster: Cluster) -> Any:
    return await cluster.client.request("GET", f"{PODS.path(cluster.namespace, 'server', 'proxy')}/cgi-bin/read")
