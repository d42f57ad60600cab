"""A whole small lab, beside any other: up in iptables mode, used, killed, taken down; and nothing of it stays."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.hosts import cgroups
from lab.layout import Layout

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]


@pytest.fixture
def second(lab: LiveLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveLab]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    made = type(lab)(Layout(f"e2e-{secrets.token_hex(3)}"))
    try:
        yield made
    finally:
        made.navarch("down")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine() -> dict[str, list[str]]:
    """What of the machine a lab could leave changed."""

    def told(*argv: str) -> list[str]:
        return sorted(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())

    return {
        "links": [line.split(":")[1] for line in told("ip", "-o", "link")],
        "routes": told("ip", "route"),
        "rules": told("nft", "list", "ruleset"),
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "folders": sorted(
            str(path) for folder in ("/etc", "/var/lib", "/var/log", "/run") for path in Path(folder).iterdir()
        ),
        "cgroups": sorted(str(path) for tree in cgroups.hierarchies() for path in tree.mount.glob("navarch/*")),
        "processes": sorted(
            comm
            for process in Path("/proc").glob("[0-9]*")
            if (comm := name_of(process)) in {"etcd", "containerd", "haproxy", "docker-registry", "containerd-shim"}
        ),
    }


def name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.timeout(300)
def test_up_use_kill_down(second: LiveLab, eventually: Eventually, tmp_path: Path) -> None:
    before = machine()
    shape = ["--control-planes", "1", "--workers", "1", "--proxy-mode", "iptables", "--api-port", str(free_port())]
    second.navarch("up", *shape)
    assert "navarch" in (tmp_path / "config").read_text()
    second.kubectl("apply", "-f", "examples/web.yaml")
    second.kubectl("rollout", "status", "deployment/web", "--timeout=60s", seconds=70)
    address = second.get("service", "web")["spec"]["clusterIP"]
    eventually(lambda: "hostname: web-" in second.fetch("w1", f"http://{address}/"), 20, "the service answers")
    assert "KUBE-SERVICES" in second.inside("w1", "iptables-save", "-t", "nat").stdout

    assert "another shape" in second.navarch("up", check=False).stderr
    second.navarch("up", *shape)  # again: all is there already

    # The supervisor dies without a word, its daemons and the pods live on; `down` must find them all the same.
    trees = cgroups.hierarchies()
    assert cgroups.signal_all(trees, f"{second.layout.cgroup}/supervisor", signal.SIGKILL) == 1
    second.navarch("down")
    assert not (tmp_path / "config").exists()
    eventually(lambda: machine() == before, 20, "the machine is as it was")
