"""`navarch etcd …`: care for etcd, on one of its hosts (in the lab: with --host, from outside)."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import secrets
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from lab.bootstrap import etcdcare, staticfiles
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.etcdcare import Etcd, Flags, Health
from lab.bootstrap.rooted import inside
from lab.bootstrap.staticpods import ETCD, MANIFESTS
from lab.errors import LabError
from lab.progress import console
from machinery.api.meta import Object

SNAPSHOTS = "/var/lib/etcd-snapshots"
_PATTERN = "etcd-*.db"
_HEALTHY_SECONDS = 120.0
_STOPPED_SECONDS = 60.0


def etcd(arguments: argparse.Namespace, config: ClusterConfiguration) -> int:
    """Do what was asked; the exit status: 1 when `status` finds something amiss. Raises LabError."""
    return asyncio.run(_etcd(arguments, config))


async def _etcd(arguments: argparse.Namespace, config: ClusterConfiguration) -> int:
    root = Path(arguments.root)
    flags = etcdcare.flags_of(root)
    endpoints = arguments.endpoints.split(",") if arguments.endpoints else flags.endpoints
    cluster = Etcd(root, endpoints, config.certificates_dir)
    match arguments.action:
        case "status":
            return _show(await cluster.health())
        case "snapshot":
            await _snapshot(cluster, root, arguments)
        case "restore":
            await _restore(root, flags, arguments)
        case "join":
            await _join(cluster, root, flags)
        case "defragment":
            await _defragment(cluster)
        case "compact":
            revision = max((each.revision for each in await cluster.health()), default=0)
            await cluster.compact(revision)
            console.print(f"compacted to revision {revision}")
        case "disarm":
            await cluster.disarm()
            return _show(await cluster.health())
    return 0


def _show(found: list[Health]) -> int:
    table = Table(box=None, pad_edge=False)
    for column in ("MEMBER", "ENDPOINT", "STATE", "VERSION", "SIZE", "IN USE", "REVISION", "ALARMS"):
        table.add_column(column, no_wrap=True)
    for each in found:
        state = ("leader" if each.leads else "healthy") if each.healthy else each.error
        sizes = [f"{size / (1 << 20):.1f} MiB" if each.healthy else "-" for size in (each.size_bytes, each.used_bytes)]
        endpoint, alarms = next(iter(each.member.client_urls), "-"), " ".join(each.alarms)
        table.add_row(each.member.name or "-", endpoint, state, each.version, *sizes, str(each.revision), alarms)
    console.print(table)
    return 0 if all(each.healthy and not each.alarms for each in found) else 1


async def _snapshot(cluster: Etcd, root: Path, arguments: argparse.Namespace) -> None:
    folder = inside(root, SNAPSHOTS)
    path = Path(arguments.file) if arguments.file else folder / f"etcd-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    found = await cluster.snapshot(path)
    size = f"{found.size_bytes / (1 << 20):.1f} MiB"
    console.print(
        f"{path}: revision {found.revision}, {found.keys} keys, {size}, hash {found.hash:08x}", soft_wrap=True
    )
    if arguments.keep and not arguments.file:
        for old in sorted(folder.glob(_PATTERN))[: -arguments.keep]:
            old.unlink()
            console.print(f"{old}: removed, {arguments.keep} are kept", soft_wrap=True)


async def _restore(root: Path, flags: Flags, arguments: argparse.Namespace) -> None:
    """This host's member from the snapshot; the same on every control-plane host makes the whole cluster."""
    if not arguments.file:
        raise LabError("etcd restore: say which snapshot")
    path = Path(arguments.file)
    found = await etcdcare.inspect(path)  # before anything is stopped
    away = _take_away(root, [pod.name for pod in staticfiles.present(root)])
    try:
        data = inside(root, flags.data_dir)
        await _until_released(data)
        aside = _set_aside(data)
        # The same on every host: members of one restored cluster know each other by it.
        await etcdcare.restore(path, flags, data / "restored", f"restored-{found.hash:08x}")
        for each in (data / "restored").iterdir():
            each.rename(data / each.name)
        (data / "restored").rmdir()
    finally:
        for source, target in away:
            source.rename(target)
        if away:
            away[0][0].parent.rmdir()
    console.print(f"{flags.name}: data of revision {found.revision}; what was there is in {aside}", soft_wrap=True)


async def _join(cluster: Etcd, root: Path, flags: Flags) -> None:
    """Make this host's member, whose data is lost or never was, one of the cluster that the others are."""
    members = await cluster.members()
    others = [each for each in members if each.name != flags.name and flags.peer_url not in each.peer_urls]
    if not others:
        raise LabError("no other member of this cluster is left: use `navarch etcd restore`")
    for stale in members:
        if stale not in others:
            await cluster.remove(stale)
            console.print(f"member {flags.name} as it was is removed")
    known = [*((each.name, each.peer_urls[0]) for each in others), (flags.name, flags.peer_url)]
    manifest = _joining(staticfiles.read(root, ETCD.name), known)
    [(source, target)] = _take_away(root, [ETCD.name])
    try:
        data = inside(root, flags.data_dir)
        await _until_released(data)
        _set_aside(data)
        await cluster.add(flags.name, flags.peer_url)
    except BaseException:
        source.rename(target)
        raise
    staticfiles.put(root, ETCD.name, manifest)
    shutil.rmtree(source.parent)
    await _until_healthy(cluster, flags.name)
    console.print(f"member {flags.name} has joined {', '.join(each.name for each in others)}")


def _joining(manifest: Object, members: list[tuple[str, str]]) -> Object:
    """The manifest of a member that joins a cluster which is there already."""
    container = manifest["spec"]["containers"][0]
    program, *given = container["command"]
    kept = [flag for flag in given if not flag.startswith(staticfiles.MEMBERSHIP)]
    listed = ",".join(f"{name}={url}" for name, url in members)
    flags = [*kept, f"--initial-cluster={listed}", "--initial-cluster-state=existing"]
    container["command"] = [program, *sorted(flags)]
    return manifest


async def _defragment(cluster: Etcd) -> None:
    """One member after the other, the leader last: it answers nobody meanwhile."""
    for each in sorted(await cluster.health(), key=lambda health: health.leads):
        if not each.healthy:
            raise LabError(f"member {each.member.name} is not healthy ({each.error}): mend that first")
        await cluster.defragment(each.member)
        await _until_healthy(cluster, each.member.name)
        [now] = [health for health in await cluster.health() if health.member.id == each.member.id]
        console.print(f"{each.member.name}: {each.size_bytes >> 10} KiB, now {now.size_bytes >> 10} KiB")


async def _until_healthy(cluster: Etcd, name: str) -> None:
    deadline, last = time.monotonic() + _HEALTHY_SECONDS, "unknown"
    while time.monotonic() < deadline:
        try:
            for each in await cluster.health():
                if each.member.name == name:
                    if each.healthy:
                        return
                    last = each.error
        except LabError as exc:
            last = str(exc)
        await asyncio.sleep(0.5)
    raise LabError(f"member {name} is not healthy after {_HEALTHY_SECONDS:g} s: {last}")


def _take_away(root: Path, names: list[str]) -> list[tuple[Path, Path]]:
    """Move manifests to where the kubelet does not look; returns how to move them back."""
    folder = inside(root, f"{MANIFESTS}-away-{secrets.token_hex(4)}")
    folder.mkdir(mode=0o700)
    moved = []
    for name in names:
        path = staticfiles.path_of(root, name)
        path.rename(folder / path.name)
        moved.append((folder / path.name, path))
    return moved


async def _until_released(data: Path) -> None:
    """Until no process has the database open: etcd locks it while it runs."""
    database = data / "member" / "snap" / "db"
    deadline = time.monotonic() + _STOPPED_SECONDS
    while database.exists():
        with database.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f"etcd on {data} does not end within {_STOPPED_SECONDS:g} s") from None
            else:
                return
        await asyncio.sleep(0.3)


def _set_aside(data: Path) -> Path:
    """Move what is in the data folder (it may be a mount, and stays) into a folder beside the rest."""
    aside = data / f"before-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    present = [each for each in data.iterdir() if not each.name.startswith("before-")]
    aside.mkdir(mode=0o700)
    for each in present:
        shutil.move(str(each), str(aside / each.name))
    return aside
