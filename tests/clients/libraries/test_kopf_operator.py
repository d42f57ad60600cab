"""An operator on kopf against Navarch: handlers for creation, change and deletion, a timer, a daemon, an index."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.layout import PROJECT
from machinery.testing.cluster import Cluster

KOPF = PROJECT / ".venv-clients" / "python" / "bin" / "kopf"
OPERATOR = PROJECT / "tests" / "clients" / "programs" / "kopf_operator.py"

SHELVES = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shelves.kopf.example.com}
spec:
  group: kopf.example.com
  scope: Namespaced
  names: {plural: shelves, singular: shelf, kind: Shelf}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {books: {type: integer}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""

SHELF = """
apiVersion: kopf.example.com/v1
kind: Shelf
metadata: {name: s}
spec: {books: 2}
"""


class Shelves:
    """kubectl in the operator's namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["kubectl", "-n", self._namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self._cluster.environment(),
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def until(self, path: str, value: str) -> None:
        self("wait", "shelf/s", f"--for=jsonpath={path}={value}", "--timeout=30s")

    def books(self) -> list[Any]:
        found: list[Any] = json.loads(self("get", "configmaps", "-l", "shelf=s", "-o", "json"))["items"]
        return found


@pytest.fixture
def shelves(navarch_cluster: Cluster, navarch_namespace: str, tmp_path: Path) -> Iterator[Shelves]:
    kubectl = Shelves(navarch_cluster, navarch_namespace)
    kubectl("apply", "-f", "-", stdin=SHELVES)
    kubectl("wait", "--for=condition=Established", "crd/shelves.kopf.example.com", "--timeout=30s")
    log = tmp_path / "kopf.log"
    with log.open("wb") as out:
        argv = [str(KOPF), "run", "--verbose", "--namespace", navarch_namespace, str(OPERATOR)]
        operator = subprocess.Popen(argv, stdout=out, stderr=out, env=navarch_cluster.environment(), cwd=tmp_path)
        try:
            yield kubectl
            operator.send_signal(signal.SIGTERM)
            assert operator.wait(60) == 0, log.read_text()[-6000:]
        finally:
            if operator.poll() is None:
                operator.kill()
                operator.wait()
    kubectl("delete", "crd", "shelves.kopf.example.com")


def test_an_operator_on_kopf(shelves: Shelves) -> None:
    shelves("apply", "-f", "-", stdin=SHELF)
    shelves.until("{.status.filled}", "2")
    assert [book["metadata"]["ownerReferences"][0]["name"] for book in shelves.books()] == ["s", "s"]
    shelves("patch", "shelf", "s", "--type=merge", "-p", '{"spec":{"books":4}}')
    shelves.until("{.status.filled}", "4")
    assert len(shelves.books()) == 4
    shelves("wait", "shelf/s", "--for=jsonpath={.status.dusted}", "--timeout=30s")  # the timer has struck
    shelves("patch", "shelf", "s", "--type=merge", "-p", '{"spec":{"books":1}}')
    shelves.until("{.status.filled}", "1")
    assert len(shelves.books()) == 1
    shelves("wait", "shelf/s", "--for=jsonpath={.metadata.finalizers[0]}=kopf.example.com/tidy", "--timeout=30s")
    shelves("delete", "shelf", "s", "--timeout=30s")
    assert "s-closed" in shelves("get", "configmap", "s-closed")
    shelves("wait", "--for=delete", "configmap", "-l", "shelf=s", "--timeout=30s")
    events = json.loads(shelves("get", "events", "-o", "json"))["items"]
    assert "Filled" in {event["reason"] for event in events}
