"""One of three control-plane hosts loses its API server or its etcd while clients go on."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from lab.bootstrap.rooted import inside

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]

CLIENTS = 4


@dataclass
class Clients:
    """Threads that read and write through HAProxy, a new connection for each pair of requests, and count failures."""

    lab: LiveLab
    namespace: str
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def work(self, number: int) -> None:
        topology, layout = self.lab.topology, self.lab.layout
        ca = inside(layout.root(topology.control_plane_hosts[0].name), "/etc/kubernetes/pki/ca.crt")
        tls = ssl.create_default_context(cafile=str(ca))
        headers = {
            "Authorization": f"Bearer {layout.token_file.read_text().strip()}",
            "Content-Type": "application/json",
        }
        path, turn = f"/api/v1/namespaces/{self.namespace}/configmaps", 0
        while not self._stop.is_set():
            turn += 1
            name = f"c{number}-{turn}"
            try:
                connection = http.client.HTTPSConnection("127.0.0.1", topology.api_port, context=tls, timeout=10)
                with contextlib.closing(connection):
                    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
                    if self._ask(connection, "POST", path, body, headers, 201):
                        self.acknowledged.add(name)
                        self._ask(connection, "GET", f"{path}/{name}", None, headers, 200)
            except (OSError, http.client.HTTPException) as exc:
                self.failures.append(f"{time.strftime('%X')} {name}: {type(exc).__name__}: {exc}")
            self._stop.wait(0.05)

    def _ask(
        self, connection: http.client.HTTPSConnection, verb: str, path: str, body: str | None,
        headers: dict[str, str], expected: int,
    ) -> bool:  # fmt: skip
        """Whether the server answered with the expected status."""
        self.requests += 1
        connection.request(verb, path, body, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != expected:
            self.failures.append(f"{time.strftime('%X')} {verb} {path}: {response.status} {text[:200]!r}")
        return response.status == expected

    def stop(self) -> None:
        self._stop.set()


@pytest.fixture
def clients(lab: LiveLab, namespace: str) -> Iterator[Clients]:
    made = Clients(lab, namespace)
    threads = [threading.Thread(target=made.work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop()
        for thread in threads:
            thread.join(30)


def go_on(clients: Clients, eventually: Eventually, requests: int = 60) -> None:
    """Wait until that many more requests have been made."""
    goal = clients.requests + requests
    eventually(lambda: clients.requests >= goal, 90, f"{requests} more requests")


def all_acknowledged_are_there(clients: Clients) -> None:
    items = clients.lab.get("configmaps", "-n", clients.namespace)["items"]
    assert clients.acknowledged <= {item["metadata"]["name"] for item in items}


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd"])
def test_stopping_one_loses_no_request_but_those_in_flight(
    clients: Clients, lab: LiveLab, eventually: Eventually, component: str
) -> None:
    go_on(clients, eventually)
    assert clients.failures == []
    try:
        lab.navarch("stop", "cp1", component)
        go_on(clients, eventually, 120)
        assert len(clients.failures) <= CLIENTS, clients.failures
        failures = len(clients.failures)
    finally:
        lab.navarch("start", "cp1", component)
    go_on(clients, eventually, 120)
    clients.stop()
    assert len(clients.failures) == failures, clients.failures
    all_acknowledged_are_there(clients)
    lab.up()  # waits until all is ready again


def test_killing_an_api_server_loses_no_request_but_those_in_flight(
    clients: Clients, lab: LiveLab, eventually: Eventually
) -> None:
    go_on(clients, eventually)
    lab.navarch("kill", "cp2", "kube-apiserver")
    go_on(clients, eventually, 120)
    clients.stop()
    assert len(clients.failures) <= CLIENTS, clients.failures
    all_acknowledged_are_there(clients)
    lab.up()


def test_another_controller_manager_and_scheduler_take_over(
    lab: LiveLab, namespace: str, eventually: Eventually
) -> None:
    leaders = {
        name: lab.get("lease", name, "-n", "kube-system")["spec"]["holderIdentity"].split("_")[0]
        for name in ("kube-scheduler", "kube-controller-manager")
    }
    try:
        for name, host in leaders.items():
            lab.navarch("stop", host, name)
        lab.kubectl("-n", namespace, "apply", "-f", "examples/web.yaml")
        lab.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s", seconds=70)
    finally:
        for name, host in leaders.items():
            lab.navarch("start", host, name)
