"""Looking after etcd on a control-plane host, by its own client: members, snapshots, size, alarms.

`Etcd` speaks with the cluster through etcdctl, with the certificate that kubeadm makes for health checks; what it needs
to know of the members it reads from the host's own manifest.

Source: etcdctl(1); https://etcd.io/docs/v3.4/op-guide/{recovery,maintenance,runtime-configuration}/.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.command import CommandError, run
from lab.bootstrap import staticfiles
from lab.bootstrap.configuration import CERTIFICATES_DIR, split_host_port
from lab.bootstrap.rooted import inside
from lab.bootstrap.staticpods import ETCD
from lab.errors import LabError

_SECONDS = 120.0
_CLIENT_PORT = 2379


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the cluster knows it."""

    id: int
    name: str
    """Empty for one that was added and has not started yet."""
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """How a member is."""

    member: Member
    healthy: bool
    version: str = ""
    size_bytes: int = 0
    used_bytes: int = 0
    """Of its size, what is in use; the rest is given back by defragmenting."""
    leads: bool = False
    revision: int = 0
    alarms: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot file holds, as etcdctl reads it."""

    hash: int
    revision: int
    keys: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Flags:
    """What the manifest of this host's etcd says."""

    name: str
    data_dir: str
    peer_url: str
    members: tuple[tuple[str, str], ...]
    """Name and peer URL of each in --initial-cluster."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where the members answer clients, this host's first."""
        own_first = sorted(self.members, key=lambda member: member[0] != self.name)
        return tuple(client_url(url) for _, url in own_first)


def client_url(peer_url: str) -> str:
    """The client URL of a member whose peer URL this is."""
    scheme, _, place = peer_url.partition("://")
    host = split_host_port(place)[0]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{_CLIENT_PORT}"


def parse_members(text: str) -> tuple[tuple[str, str], ...]:
    """--initial-cluster's value: NAME=PEER-URL,…"""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return tuple((name.strip(), url.strip()) for name, _, url in pairs)


def flags_of(root: Path) -> Flags:
    """What this host's etcd is started with. Raises LabError when there is no manifest of it."""
    command = staticfiles.read(root, ETCD.name)["spec"]["containers"][0]["command"]
    given = {name.removeprefix("--"): value for name, _, value in (flag.partition("=") for flag in command[1:])}
    try:
        members = parse_members(given["initial-cluster"])
        return Flags(given["name"], given["data-dir"], given["initial-advertise-peer-urls"], members)
    except KeyError as exc:
        raise LabError(f"{staticfiles.path_of(root, ETCD.name)}: --{exc.args[0]} is not given") from exc


class Etcd:
    """The etcd cluster, seen from one of its hosts. Every method raises LabError saying what etcdctl said."""

    def __init__(self, root: Path, endpoints: Sequence[str], certificates_dir: str = CERTIFICATES_DIR) -> None:
        folder = inside(root, f"{certificates_dir}/etcd")
        client = folder / "healthcheck-client"
        self._files = [f"--cacert={folder / 'ca.crt'}", f"--cert={client}.crt", f"--key={client}.key"]
        self._endpoints = tuple(endpoints)

    async def members(self) -> list[Member]:
        """All members, by the word of one that answers."""
        return parse_member_list(await self._first("member", "list", "-w", "json"))

    async def health(self) -> list[Health]:
        """How each member is, those included that do not answer."""
        alarms = parse_alarms(await self._first("alarm", "list"))
        return [await self._health(member, alarms.get(member.id, ())) for member in await self.members()]

    async def _health(self, member: Member, alarms: tuple[str, ...]) -> Health:
        if not member.client_urls:
            return Health(member, healthy=False, error="has not started yet")
        try:
            endpoint = [member.client_urls[0]]
            await self._ctl(endpoint, "endpoint", "health", "--command-timeout=5s")
            return parse_status(member, await self._ctl(endpoint, "endpoint", "status", "-w", "json"), alarms)
        except LabError as exc:
            return Health(member, healthy=False, alarms=alarms, error=str(exc))

    async def remove(self, member: Member) -> None:
        """Take a member out of the cluster."""
        await self._first("member", "remove", f"{member.id:x}")

    async def add(self, name: str, peer_url: str) -> None:
        """Make a new member known, which is to be started next."""
        await self._first("member", "add", name, f"--peer-urls={peer_url}")

    async def snapshot(self, path: Path) -> Snapshot:
        """Save a snapshot to the file, and read it back before it gets its name."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            await self._first("snapshot", "save", str(temporary))
            found = await inspect(temporary)
            temporary.chmod(0o600)
            temporary.replace(path)
        finally:
            for left in (temporary, temporary.with_name(f"{temporary.name}.part")):
                left.unlink(missing_ok=True)
        return found

    async def defragment(self, member: Member) -> None:
        """Give back what is free in the member's file. It answers nobody meanwhile."""
        await self._ctl(member.client_urls[:1], "defrag", f"--command-timeout={_SECONDS:g}s")

    async def compact(self, revision: int) -> None:
        """Forget what was before the revision; one that is forgotten already is no error."""
        try:
            await self._first("compact", str(revision))
        except LabError as exc:
            if "has been compacted" not in str(exc):
                raise

    async def disarm(self) -> None:
        """Call off all alarms."""
        await self._first("alarm", "disarm")

    async def _first(self, *arguments: str) -> str:
        """The answer of the first member that gives one."""
        failures = []
        for endpoint in self._endpoints:
            try:
                return await self._ctl([endpoint], *arguments)
            except LabError as exc:
                failures.append(str(exc))
        raise LabError(failures[0] if failures else "no etcd member is known")

    async def _ctl(self, endpoints: Iterable[str], *arguments: str) -> str:
        return await etcdctl(f"--endpoints={','.join(endpoints)}", *self._files, *arguments)


async def etcdctl(*arguments: str) -> str:
    """What etcdctl prints. Raises LabError."""
    try:
        environment = {"ETCDCTL_API": "3", "PATH": os.environ.get("PATH", os.defpath)}
        return (await run("etcdctl", *arguments, check=True, timeout_seconds=_SECONDS, env=environment)).text
    except CommandError as exc:
        raise LabError(f"etcd: {_told(exc)}") from exc


async def inspect(path: Path) -> Snapshot:
    """What a snapshot file holds; its checksum is looked at. Raises LabError for one that can't be used."""
    if not path.is_file():
        raise LabError(f"{path}: no such snapshot")
    told = json.loads(await etcdctl("snapshot", "status", str(path), "-w", "json"))
    return Snapshot(told["hash"], told["revision"], told["totalKey"], told["totalSize"])


async def restore(path: Path, flags: Flags, data_dir: Path, token: str) -> None:
    """Make a member's data folder, which must not be there, from a snapshot: one of a new cluster."""
    members = ",".join(f"{name}={url}" for name, url in flags.members)
    await etcdctl(
        "snapshot",
        "restore",
        str(path),
        f"--name={flags.name}",
        f"--data-dir={data_dir}",
        f"--initial-cluster={members}",
        f"--initial-advertise-peer-urls={flags.peer_url}",
        f"--initial-cluster-token={token}",
    )
    data_dir.chmod(0o700)


def parse_member_list(text: str) -> list[Member]:
    """etcdctl member list -w json."""
    return [
        Member(
            each["ID"],
            each.get("name", ""),
            tuple(each.get("peerURLs") or ()),
            tuple(each.get("clientURLs") or ()),
        )
        for each in json.loads(text).get("members") or ()
    ]


def parse_status(member: Member, text: str, alarms: tuple[str, ...]) -> Health:
    """etcdctl endpoint status -w json, of one endpoint."""
    status: dict[str, Any] = json.loads(text)[0]["Status"]
    size = status.get("dbSize", 0)
    header = status["header"]
    return Health(
        member,
        healthy=True,
        version=status["version"],
        size_bytes=size,
        used_bytes=status.get("dbSizeInUse", size),
        leads=status.get("leader") == header["member_id"],
        revision=header["revision"],
        alarms=alarms,
    )


def parse_alarms(text: str) -> dict[int, tuple[str, ...]]:
    """etcdctl alarm list: the alarms by member."""
    found: dict[int, tuple[str, ...]] = {}
    for member, alarm in re.findall(r"memberID:(\d+) alarm:(\w+)", text):
        found[int(member)] = (*found.get(int(member), ()), alarm)
    return found


def _told(exc: CommandError) -> str:
    """The last thing etcdctl said; it logs in JSON before."""
    if exc.result is None:
        return str(exc)
    lines = exc.result.stderr.decode(errors="replace").strip().splitlines()
    said = [line for line in lines if not line.startswith("{")] or lines
    return said[-1].removeprefix("Error: ") if said else f"etcdctl ended with {exc.result.returncode}"
