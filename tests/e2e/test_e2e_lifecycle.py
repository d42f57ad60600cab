"""A whole small lab, beside any other: up in iptables mode, used, killed, taken down; and nothing of it stays."""

from __future__ import annotations

import contextlib
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
    """What the machine's own network has."""

    def told(*argv: str) -> list[str]:
        return sorted(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())

    links = [line.split(": ")[1] for line in told("ip", "-o", "link")]
    return {"links": links, "routes": told("ip", "route"), "rules": told("nft", "list", "ruleset")}


def traces(layout: Layout) -> list[str]:
    """Whatever still bears the lab's name: files, mounts, cgroups and the processes in them."""
    name = f"navarch/{layout.name}"
    found = [str(folder) for folder in (layout.state, layout.runtime) if folder.exists()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]
    found += [str(tree.child(layout.cgroup)) for tree in cgroups.hierarchies() if tree.child(layout.cgroup).exists()]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # One without a command line has ended, and only waits for init to take note.
            if name in (process / "cgroup").read_text() and (process / "cmdline").read_bytes():
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    return found


def networks(pids: set[int]) -> set[str]:
    """The network namespaces that processes are in."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/net").readlink()))
    return found


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

    trees = cgroups.hierarchies()
    inside = networks(cgroups.processes(trees, second.layout.cgroup)) - {str(Path("/proc/self/ns/net").readlink())}
    assert len(inside) >= 3 + 3  # the hosts' and the pods'

    # The supervisor dies without a word, its daemons and the pods live on; `down` must find them all the same.
    assert cgroups.signal_all(trees, f"{second.layout.cgroup}/supervisor", signal.SIGKILL) == 1
    second.navarch("down")
    assert not (tmp_path / "config").exists()
    assert traces(second.layout) == []
    everyone = {int(process.name) for process in Path("/proc").glob("[0-9]*")}
    assert not networks(everyone) & inside
    assert machine() == before
