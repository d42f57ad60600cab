"""Hosts on the real kernel: what they share, what they do not, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from lab import sweep
from lab.conditions import until
from lab.hosts import cgroups, namespaces
from lab.hosts.mounts import mounts_under
from lab.hosts.namespaces import SYSTEM_SLICE, VISITORS, visit
from lab.layout import Layout

if TYPE_CHECKING:
    from partial_lab import BuiltLab

pytest_plugins = ["partial_lab"]


def left_behind(layout: Layout) -> list[str]:
    trees = cgroups.hierarchies()
    folders = [layout.state, layout.runtime, *(tree.child(layout.cgroup) for tree in trees)]
    found = [str(folder) for folder in folders if folder.exists()]
    found += [str(mount.target) for folder in folders for mount in mounts_under(folder)]
    return found + [str(pid) for pid in cgroups.processes(trees, layout.cgroup) | sweep.inhabitants(layout)]


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits for its parent to look has an empty command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


async def test_a_host_has_its_own_name_network_files_and_cgroups(built: BuiltLab) -> None:
    assert (await built.inside("w1", "hostname")).text == "w1\n"
    links = (await built.inside("w1", "ip", "-o", "link")).text
    assert sorted(line.split()[1].split("@")[0].rstrip(":") for line in links.splitlines()) == ["eth0", "lo"]
    assert (await built.inside("w1", "ls", "/sys/class/net")).text.split() == ["eth0", "lo"]
    shown = (await built.inside("w1", "cat", "/proc/self/cgroup")).text.splitlines()
    assert {line.rpartition(":")[2] for line in shown} == {f"/{VISITORS}"}

    await built.inside("w1", "sh", "-c", "echo mine > /var/lib/kubelet/x; echo mine > /run/x")
    assert (await built.inside("cp1", "ls", "/var/lib/kubelet/x", "/run/x")).returncode != 0
    assert not Path("/var/lib/kubelet/x").exists()
    assert not Path("/run/x").exists()


async def test_hosts_reach_each_other_by_name_and_nothing_beyond(built: BuiltLab) -> None:
    assert (await built.inside("w1", "busybox", "ping", "-c1", "-W5", "cp1")).returncode == 0
    beyond = await built.inside("w1", "busybox", "ping", "-c1", "-W1", "192.0.2.1")
    assert beyond.returncode != 0
    machine = Path("/proc/net/dev").read_text()
    assert "br0" not in machine
    assert "w1" not in machine


async def test_a_process_of_a_host_is_found_by_its_cgroup(built: BuiltLab) -> None:
    trees = cgroups.hierarchies()
    argv = visit(built.layout, trees, "w1", ["sleep", "600"])
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        inside = f"{built.layout.cgroup}/w1"
        await until(lambda: process.pid in cgroups.processes(trees, inside), 10)
    finally:
        process.kill()
        await process.wait()
    await until(lambda: process.pid not in cgroups.processes(trees, inside), 10)


async def test_down_after_down_finds_nothing(layout: Layout) -> None:
    await sweep.sweep(layout)
    await sweep.sweep(layout)
    assert left_behind(layout) == []


async def test_down_leaves_nothing_of_a_built_lab(built: BuiltLab) -> None:
    assert left_behind(built.layout) != []
    await sweep.sweep(built.layout)
    assert left_behind(built.layout) == []


async def test_down_after_the_supervisor_was_killed_ends_its_daemons_too(built: BuiltLab) -> None:
    [daemon] = built.daemons("registry")
    await built.supervisor.start([daemon])
    trees, layout = cgroups.hierarchies(), built.layout
    cgroup = f"{layout.cgroup}/{daemon.host}/{daemon.cgroup}"
    await until(lambda: bool(cgroups.processes(trees, cgroup)), 10)
    orphans = cgroups.processes(trees, cgroup)
    cgroups.signal_all(trees, f"{layout.cgroup}/supervisor", signal.SIGKILL)
    await sweep.sweep(layout)
    assert left_behind(layout) == []
    assert not any(alive(pid) for pid in orphans)


async def test_down_ends_who_came_in_by_another_way(built: BuiltLab) -> None:
    """A shell of `nsenter` is in the host's namespaces, yet in none of the lab's cgroups."""
    namespace = built.layout.namespace("w1", "net")
    process = await asyncio.create_subprocess_exec("nsenter", f"--net={namespace}", "sleep", "600")
    try:
        await until(lambda: process.pid in sweep.inhabitants(built.layout), 10)
        await sweep.sweep(built.layout)
        assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGKILL
        assert left_behind(built.layout) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_down_after_up_died_at_each_step(layout: Layout) -> None:
    trees = cgroups.hierarchies()
    layout.state.mkdir(parents=True)
    await sweep.sweep(layout)
    assert left_behind(layout) == []

    layout.runtime.mkdir(parents=True)
    await namespaces.hold_namespaces(layout)
    await sweep.sweep(layout)
    assert left_behind(layout) == []

    layout.state.mkdir(parents=True)
    await namespaces.hold_namespaces(layout)
    await namespaces.create_network(layout)
    cgroups.create(trees, f"{layout.cgroup}/w1/{SYSTEM_SLICE}")
    await sweep.sweep(layout)
    assert left_behind(layout) == []
