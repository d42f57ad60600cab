"""What runs in a host's pods, found as an administrator without an API server would: by cgroups, logs and manifests.

    /etc/kubernetes/manifests/NAME.yaml                    a static pod that is to run
    /etc/kubernetes/stopped/NAME.yaml                      one that `navarch stop` took away
    /var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log        what its container said after N restarts
    …/kubepods/…/podUID/CONTAINER-ID                       the cgroup of its processes

Source: CRI, "Logging"; Create static Pods; kubelet, the cgroup names of pods.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.bootstrap.rooted import inside
from lab.bootstrap.staticpods import MANIFESTS
from lab.hosts import cgroups
from lab.hosts.cgroups import Hierarchy
from lab.layout import Layout

STOPPED = "/etc/kubernetes/stopped"
_LOGS = "/var/log/pods"
_SYSTEM = "kube-system_"
_PAUSE = b"/pause\0"


@dataclass(frozen=True, slots=True)
class Component:
    """One container of a pod in kube-system, running or not."""

    host: str
    name: str
    """The container's: kube-apiserver, kube-proxy, …"""
    uid: str
    """The pod's."""
    log: Path
    """Of its latest run."""
    restarts: int


def components(layout: Layout, host: str) -> list[Component]:
    """Those that have left a log, the latest pod of each name, sorted by name."""
    found: dict[str, Component] = {}
    ages: dict[str, float] = {}
    for pod in inside(layout.root(host), _LOGS).glob(f"{_SYSTEM}*"):
        uid = pod.name.rpartition("_")[2]
        with suppress(FileNotFoundError):  # the logs of a pod that is replaced are removed meanwhile
            for folder in pod.iterdir():
                latest = max(_runs(folder), default=None)
                if latest is None:
                    continue
                number, log, changed = latest
                if changed >= ages.get(folder.name, 0.0):
                    ages[folder.name] = changed
                    found[folder.name] = Component(host, folder.name, uid, log, number)
    return [found[name] for name in sorted(found)]


def component(layout: Layout, host: str, name: str) -> Component | None:
    """The component of this name, if it has left a log."""
    return next((each for each in components(layout, host) if each.name == name), None)


def _runs(folder: Path) -> Iterator[tuple[int, Path, float]]:
    for log in folder.glob("*.log"):
        if log.stem.isdecimal():
            yield int(log.stem), log, log.stat().st_mtime


def processes(layout: Layout, trees: Sequence[Hierarchy], found: Component) -> list[int]:
    """The processes of the component that run, its sandbox' own not among them; the oldest first."""
    path = _cgroup(layout, trees, found)
    if path is None:
        return []
    pids = [pid for pid in cgroups.processes(trees[:1], path) if not _is_pause(pid)]
    return sorted(pids, key=started)


def all_processes(layout: Layout, trees: Sequence[Hierarchy], host: str) -> set[int]:
    """Every process in a pod of the host."""
    return cgroups.processes(trees[:1], f"{layout.cgroup}/{host}/kubepods")


def stopped(layout: Layout, host: str) -> list[str]:
    """The static pods that were stopped by hand."""
    return sorted(path.stem for path in inside(layout.root(host), STOPPED).glob("*.yaml"))


def wanted(layout: Layout, host: str) -> list[str]:
    """The static pods that are to run."""
    return sorted(path.stem for path in inside(layout.root(host), MANIFESTS).glob("*.yaml"))


def take_away(layout: Layout, host: str, name: str) -> None:
    """Move the manifest to where the kubelet does not look."""
    _move(layout.root(host), name, MANIFESTS, STOPPED)


def bring_back(layout: Layout, host: str, name: str) -> None:
    """Move it back."""
    _move(layout.root(host), name, STOPPED, MANIFESTS)


def _move(root: Path, name: str, source: str, target: str) -> None:
    folder = inside(root, target)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = inside(root, source) / f"{name}.yaml"
    if path.exists():
        path.rename(folder / path.name)


def _cgroup(layout: Layout, trees: Sequence[Hierarchy], found: Component) -> str | None:
    base = f"{layout.cgroup}/{found.host}"
    for quality in ("burstable/", "besteffort/", ""):
        path = f"{base}/kubepods/{quality}pod{found.uid}"
        if trees[0].child(path).is_dir():
            return path
    return None


def _is_pause(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_PAUSE)
    except OSError:
        return True  # it has ended


def started(pid: int) -> float:
    """When a process began, in Unix time; in the far future for one that has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_ctime
    except OSError:
        return float("inf")
