"""What users get wrong, and what they are told."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.bootstrap import kubeconfig
from lab.layout import PROJECT
from machinery import pki

if TYPE_CHECKING:
    from live_lab import LiveLab

pytest_plugins = ["live_lab"]

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"
DEPLOYMENT = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n"


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (POD + "spec: {containers: []}\n", "spec.containers: Required value"),
        (POD + "spec: {containers: [{name: UPPER, image: x}]}\n", "spec.containers[0].name: Invalid value"),
        (POD + "spec: {containers: [{name: a, image: x, imge: y}]}\n", 'unknown field "spec.containers[0].imge"'),
        (POD + "spec: {containers: [{name: a, image: x, ports: [{containerPort: many}]}]}\n", "containerPort"),
        (
            DEPLOYMENT + "spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, "
            "spec: {containers: [{name: a, image: x}]}}}\n",
            "`selector` does not match template `labels`",
        ),
        (DEPLOYMENT + "spec: {replicas: -1}\n", "spec.replicas: Invalid value: -1"),
        ("apiVersion: v1\nkind: Pood\nmetadata: {name: x}\n", 'no matches for kind "Pood" in version "v1"'),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec: {}\n", "metadata.name: Invalid value"),
        ("apiVersion: v1\nkind: Pod\n  bad indent: [\n", "error"),
    ],
)
def test_a_bad_manifest_is_refused_with_field_and_reason(
    lab: LiveLab, namespace: str, manifest: str, told: str
) -> None:
    done = lab.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest, check=False)
    assert done.returncode != 0
    assert told in done.stderr
    assert lab.get("pods,deployments", "-n", namespace)["items"] == []


def test_asking_for_what_is_not_there(lab: LiveLab, namespace: str) -> None:
    done = lab.kubectl("-n", namespace, "get", "pod", "nobody", check=False)
    assert done.stderr.strip() == 'Error from server (NotFound): pods "nobody" not found'


def test_a_certificate_of_another_authority_is_not_believed(lab: LiveLab, tmp_path: Path) -> None:
    stranger = pki.make_authority("kubernetes", algorithm="ECDSA-P256")
    pair = kubeconfig.client_pair(stranger, kubeconfig.SUPER_ADMIN, "ECDSA-P256", pki.LIFETIME)
    config = kubeconfig.read(lab.layout.kubeconfig)
    config["users"][0]["user"] = kubeconfig.credentials(pair)
    path = tmp_path / "stranger.conf"
    kubeconfig.write(path, config)
    done = lab.kubectl("--kubeconfig", str(path), "get", "nodes", check=False)
    assert done.returncode != 0
    assert "Unauthorized" in done.stderr or "must be logged in" in done.stderr or "certificate" in done.stderr


def test_a_server_of_another_authority_is_not_believed(lab: LiveLab, tmp_path: Path) -> None:
    stranger = pki.make_authority("kubernetes", algorithm="ECDSA-P256")
    config = kubeconfig.read(lab.layout.kubeconfig)
    config["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(stranger.certificate_pem).decode()
    path = tmp_path / "stranger.conf"
    kubeconfig.write(path, config)
    done = lab.kubectl("--kubeconfig", str(path), "get", "nodes", check=False)
    assert "x509: certificate signed by unknown authority" in done.stderr


@pytest.mark.parametrize(
    "module",
    ["controlplane.apiserver", "controlplane.scheduler", "controlplane.controllers", "agent.kubelet", "agent.proxy"],
)
def test_an_unknown_flag_is_named(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--colour=red"], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode != 0
    assert "--colour" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_patch_that_can_not_be_applied_is_told(lab: LiveLab, namespace: str) -> None:
    lab.kubectl("-n", namespace, "create", "configmap", "x")
    patch = json.dumps([{"op": "replace", "path": "/data/none/deeper", "value": "1"}])
    done = lab.kubectl("-n", namespace, "patch", "configmap", "x", "--type=json", "-p", patch, check=False)
    assert done.returncode != 0
    assert done.stderr.strip()


def test_too_much_for_any_node_is_explained(lab: LiveLab, namespace: str) -> None:
    manifest = POD + "spec: {containers: [{name: a, image: x, resources: {requests: {cpu: 1k}}}]}\n"
    lab.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)
    lab.kubectl("-n", namespace, "wait", "pod/x", "--for=condition=PodScheduled=False", "--timeout=20s")
    told = lab.kubectl("-n", namespace, "describe", "pod", "x").stdout
    assert "FailedScheduling" in told
    assert "Insufficient cpu" in told
