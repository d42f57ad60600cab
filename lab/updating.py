"""Bringing a running lab to the code that is in the checkout now: images first, then one host after the other."""

from __future__ import annotations

from collections.abc import Sequence

from agent.command import CommandError, run
from lab import assembly
from lab.errors import LabError, failing_as_one
from lab.hosts import cgroups, pods
from lab.hosts.namespaces import visit
from lab.images import store
from lab.images.release import Release
from lab.starting import Start
from lab.topology import Host

_IMPORT_SECONDS = 120.0
_REPLACE_SECONDS = 90.0


async def update(start: Start, made: Release) -> None:
    """Give every host the release's images, and replace the static pods whose manifests change by that."""
    hosts = [*start.planes, *start.topology.worker_hosts]
    archive = store.archive(made)
    async with failing_as_one() as group:
        for host in hosts:
            group.create_task(_import(start, host, made, str(archive)))
    for host in start.planes:
        before = {each.name: each.uid for each in pods.components(start.layout, host.name)}
        changed = assembly.refill(start.layout, start.topology, start.config, host)
        if changed:
            with start.steps.step(f"{', '.join(changed)} on {host.name} replaced"):
                await _replaced(start, host, changed, before)
            await start.control_plane([host])


async def _import(start: Start, host: Host, made: Release, archive: str) -> None:
    """Import what the host does not have yet. Raises LabError."""
    listed = await _ctr(start, host, "images", "ls", "-q")
    missing = {name for _, names in made.named for name in names} - set(listed.split())
    if missing:
        with start.steps.step(f"images on {host.name}"):
            snapshotter = ["--snapshotter", assembly.snapshotter(start.layout)]
            await _ctr(start, host, "images", "import", *snapshotter, archive)


async def _ctr(start: Start, host: Host, *arguments: str) -> str:
    argv = visit(start.layout, cgroups.hierarchies(), host.name, ["ctr", "--namespace", store.NAMESPACE, *arguments])
    try:
        return (await run(*argv, check=True, timeout_seconds=_IMPORT_SECONDS)).text
    except CommandError as exc:
        raise LabError(f"{host.name}: {exc}") from exc


async def _replaced(start: Start, host: Host, names: Sequence[str], before: dict[str, str]) -> None:
    """Wait until other pods than before run in these places."""
    trees = cgroups.hierarchies()

    async def missing() -> str:
        waiting = []
        for name in names:
            found = pods.component(start.layout, host.name, name)
            if found is None or found.uid == before.get(name) or not pods.processes(start.layout, trees, found):
                waiting.append(name)
        return f"{', '.join(waiting)} of the manifest not running" if waiting else ""

    await start.watch.until([f"{host.name}/{name}" for name in names], missing, _REPLACE_SECONDS)
