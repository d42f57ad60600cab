"""Helm, an old and a new one: a chart's life from `helm create` to `helm uninstall`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.layout import PROJECT
from machinery.testing.cluster import Cluster

TOOLS = PROJECT / ".venv-clients" / "tools"
WAIT = ("--wait", "--timeout", "60s")


@pytest.fixture(params=["old", "new"])
def helm(
    request: pytest.FixtureRequest, navarch_cluster: Cluster, navarch_namespace: str, tmp_path: Path
) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        argv = [str(TOOLS / request.param / "helm"), "--namespace", navarch_namespace, *arguments]
        environment = {**navarch_cluster.environment(), "HOME": str(tmp_path)}
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=100, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout + done.stderr

    return run


def test_the_life_of_a_release(helm: Callable[..., str], tmp_path: Path) -> None:
    helm("create", "shop")
    (tmp_path / "shop" / "crds").mkdir()
    assert "STATUS: deployed" in helm("install", "my", "shop", *WAIT)
    assert json.loads(helm("list", "-o", "json"))[0]["name"] == "my"
    assert "upgraded" in helm("upgrade", "my", "shop", "--set", "replicaCount=2", *WAIT)
    assert json.loads(helm("get", "values", "my", "-o", "json")) == {"replicaCount": 2}
    assert "upgraded" in helm("upgrade", "my", "shop", "--set", "autoscaling.enabled=true", "--dry-run=server")
    assert "Rollback was a success" in helm("rollback", "my", "1", *WAIT)
    assert [step["revision"] for step in json.loads(helm("history", "my", "-o", "json"))] == [1, 2, 3]
    assert "Succeeded" in helm("test", "my", "--timeout", "60s")
    assert "kind: Deployment" in helm("get", "manifest", "my")
    assert "uninstalled" in helm("uninstall", "my", *WAIT)
    assert json.loads(helm("list", "-o", "json")) == []
