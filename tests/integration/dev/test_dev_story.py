"""`navarch dev` from the outside: a cluster in one process, and what it keeps."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from dev_process import end, get, kubectl

from lab.layout import PROJECT
from machinery.testing.cluster import COMMAND, ClusterDidNotStart, running_cluster

WAIT = "--timeout=30s"


def refused(*arguments: str) -> str:
    """The one line with which it ends at once."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=30, cwd=PROJECT)
    lines = done.stderr.splitlines()
    assert done.returncode != 0, done
    assert len(lines) == 1, done
    assert "Traceback" not in done.stderr
    return lines[0]


def test_workloads_run_on_hollow_nodes() -> None:
    with running_cluster(hollow_nodes=2) as dev:
        kubectl(dev, "wait", "--for=condition=Ready", "node", "--all", WAIT)
        assert get(dev, "service", "kubernetes")["spec"]["clusterIP"] == "10.96.0.1"
        kubectl(dev, "create", "deployment", "web", "--image=nginx", "--replicas=3")
        kubectl(dev, "expose", "deployment", "web", "--port=80")
        kubectl(dev, "rollout", "status", "deployment/web", WAIT)
        pods = get(dev, "pods", "-l", "app=web")["items"]
        assert len({pod["status"]["podIP"] for pod in pods}) == 3
        assert {pod["spec"]["nodeName"] for pod in pods} == {"hollow-0", "hollow-1"}
        kubectl(dev, "wait", "--for=jsonpath={.endpoints[2].conditions.ready}", "endpointslice", "--all", WAIT)
        kubectl(dev, "create", "job", "one", "--image=busybox", "--", "true")
        kubectl(dev, "wait", "--for=condition=Complete", "job/one", WAIT)
        kubectl(dev, "delete", "deployment", "web", "--wait", "--cascade=foreground")
        kubectl(dev, "wait", "--for=delete", "pod", "-l", "app=web", WAIT)
        assert end(dev, signal.SIGINT) == 0


def test_logs_of_what_does_not_run_are_refused_in_words() -> None:
    with running_cluster(hollow_nodes=1) as dev:
        kubectl(dev, "run", "web", "--image=nginx")
        kubectl(dev, "wait", "--for=condition=Ready", "pod/web", WAIT)
        with pytest.raises(AssertionError, match="a hollow node runs no containers"):
            kubectl(dev, "logs", "web")


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    with running_cluster(directory=tmp_path) as dev:
        created: list[str] = []

        def write() -> None:
            with contextlib.suppress(AssertionError):  # killed in the middle of one: it may be there or not
                while True:
                    name = f"kept-{len(created)}"
                    kubectl(dev, "create", "configmap", name, f"--from-literal=name={name}")
                    created.append(name)

        writer = threading.Thread(target=write)
        writer.start()
        while len(created) < 10 and writer.is_alive():
            writer.join(timeout=0.02)
        end(dev, signal.SIGKILL)
        writer.join()
    with running_cluster(directory=tmp_path) as dev:
        found = {one["metadata"]["name"]: one["data"].get("name") for one in get(dev, "configmaps")["items"]}
        assert {name: found.get(name) for name in created} == {name: name for name in created}
        assert len(created) >= 10
        assert end(dev, signal.SIGTERM) == 0


def test_one_process_has_a_data_directory(tmp_path: Path) -> None:
    with running_cluster(directory=tmp_path) as dev:
        line = refused("--data-dir", str(tmp_path), "--port", "0")
        assert f"{tmp_path}: in use by process {dev.process.pid}" in line
        port = re.search(r"127\.0\.0\.1:(\d+)", dev.said)
        assert port is not None
        line = refused("--data-dir", str(tmp_path / "other"), "--port", port[1])
        assert line.endswith(f"--port: cannot listen on 127.0.0.1:{port[1]}: address already in use")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "70000"], "--port 70000: must be between 0 (any free port) and 65535"),
        (["--port", "x"], "--port: invalid int value: 'x'"),
        (["--hollow-nodes", "-1"], "--hollow-nodes -1: must be between 0 and 5000"),
        (["--store", "redis"], "--store: invalid choice: 'redis'"),
        (["--data-dir", "/proc/none"], "--data-dir /proc/none: No such file or directory"),
        (["--replicas", "3"], "unrecognized arguments: --replicas 3"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], told: str) -> None:
    assert told in refused(*arguments)


def test_a_file_that_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"my thesis" * 1000)
    line = refused("--data-dir", str(tmp_path), "--port", "0")
    assert f"{tmp_path}/store.db: not a store of Navarch's" in line
    assert (tmp_path / "store.db").read_bytes() == b"my thesis" * 1000


def test_neither_root_nor_a_home_is_needed(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if Path("/tmp") in parent.parents:
            parent.chmod(0o755)
    folder = tmp_path / "data"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *COMMAND)
    with running_cluster(directory=folder / "dev", command=nobody) as dev:
        assert (folder / "dev").stat().st_mode & 0o777 == 0o700
        assert dev.kubeconfig.stat().st_mode & 0o777 == 0o600
        assert get(dev, "namespace", "default")["status"]["phase"] == "Active"


def test_the_wheel_is_complete(tmp_path: Path) -> None:
    """Installed into an environment that has the dependencies and not this checkout."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    site = next((venv / "lib").glob("python*")) / "site-packages"
    own = next(Path(sys.prefix, "lib").glob("python*")) / "site-packages"
    (site / "dependencies.pth").write_text(f"{own}\n")  # of a .pth no further .pth is read: not the one to the checkout
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-input", str(PROJECT)]
    subprocess.run(pip, check=True, timeout=100, cwd=tmp_path)
    installed = [str(venv / "bin" / "navarch"), "dev"]
    script = "import machinery; print(machinery.__file__)"
    found = subprocess.run(
        [str(venv / "bin" / "python"), "-P", "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(site))
    with running_cluster(hollow_nodes=1, command=installed) as dev:
        assert "KIND:       Pod" in kubectl(dev, "explain", "pod")  # schemas and protobuf fields are data files
        kubectl(dev, "run", "web", "--image=nginx")
        kubectl(dev, "wait", "--for=condition=Ready", "pod/web", WAIT)
    (tmp_path / "pytest.ini").write_text("[pytest]\nnavarch_hollow_nodes = 2\n")
    (tmp_path / "test_operator.py").write_text(OPERATOR_TEST)
    pytest_run = [str(venv / "bin" / "python"), "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(pytest_run, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


OPERATOR_TEST = """
import json
import subprocess


def kubectl(cluster, *arguments):
    return subprocess.run(["kubectl", *arguments], env=cluster.environment(), check=True, capture_output=True).stdout


def test_nodes(navarch_cluster):
    assert len(json.loads(kubectl(navarch_cluster, "get", "nodes", "-o", "json"))["items"]) == 2


def test_pods(navarch_cluster, navarch_namespace):
    kubectl(navarch_cluster, "-n", navarch_namespace, "run", "web", "--image=nginx")
    kubectl(navarch_cluster, "-n", navarch_namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=20s")
"""


def test_a_cluster_that_can_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClusterDidNotStart, match="Not a directory"), running_cluster(directory=tmp_path / "file" / "x"):
        pass
