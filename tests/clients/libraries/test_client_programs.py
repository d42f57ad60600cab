"""Client libraries, unchanged, in programs that use them as their users do. Run by `navarch test clients`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab.layout import PROJECT
from machinery.testing.cluster import Cluster

BIN = PROJECT / ".venv-clients" / "python" / "bin"
PROGRAMS = PROJECT / "tests" / "clients" / "programs"


def run(cluster: Cluster, *argv: str, folder: Path, seconds: float = 100) -> str:
    """Run a program of the clients' environment, which must succeed; its output."""
    environment = {**cluster.environment(), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=seconds, cwd=folder, env=environment
    )
    assert done.returncode == 0, (argv, done.stdout[-6000:], done.stderr[-6000:])
    return done.stdout


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("official_client.py", "official client: ok"),
        ("asyncio_client.py", "kubernetes-asyncio: ok"),
        ("lightkube_client.py", "lightkube: ok"),
        ("kr8s_client.py", "kr8s: ok"),
    ],
)
def test_a_client_library(
    program: str, told: str, navarch_cluster: Cluster, navarch_namespace: str, tmp_path: Path
) -> None:
    assert told in run(
        navarch_cluster, str(BIN / "python"), str(PROGRAMS / program), navarch_namespace, folder=tmp_path
    )


@pytest.mark.timeout(300)
def test_ansible(navarch_cluster: Cluster, navarch_namespace: str, tmp_path: Path) -> None:
    """Each of the playbook's thirty tasks starts a Python of its own: a minute on two busy cores."""
    variables = [f"ns={navarch_namespace}", f"ansible_python_interpreter={BIN / 'python'}"]
    extra = [argument for variable in variables for argument in ("-e", variable)]
    argv = [str(BIN / "ansible-playbook"), "-i", "localhost,", *extra, str(PROGRAMS / "playbook.yaml")]
    told = run(navarch_cluster, *argv, folder=tmp_path, seconds=280)
    assert "failed=0" in told
