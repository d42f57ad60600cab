"""Building the pod network's agent from its command line, and running it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.network.agent import NetworkAgent, NetworkSettings, clean_up
from agent.network.model import OverlaySettings
from agent.network.policy.agent import PolicyAgent
from agent.network.rtnetlink import KernelNetwork
from machinery import component
from machinery.api.catalogue import NODES
from machinery.api.meta import Object
from machinery.cache.informer import Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import SystemClock
from machinery.errors import SettingsError
from machinery.events import EventRecorder
from machinery.serving import HealthServer
from machinery.settings import Flag, FlagSet, boolean, duration

_FLAGS = FlagSet(
    "network",
    [
        *component.LOG_FLAGS,
        *component.CLIENT_FLAGS,
        Flag("node-name", str, "", "name of the Node that this runs on; default: the host's name"),
        Flag("hostname-override", str, "", "the same, by the name that kubelet and kube-proxy have for it"),
        Flag("node-ip", str, "", "this host's address, for one that has no Node object; default: found out"),
        Flag("cni-conf-dir", str, "/etc/cni/net.d", "folder of the container runtime's CNI configuration"),
        Flag("mtu", int, 0, "MTU of pods' links, 0: what the host's links allow"),
        Flag("vxlan-id", int, 1, "VXLAN network identifier; the same on all nodes"),
        Flag("vxlan-port", int, 8472, "VXLAN's UDP port; the same on all nodes"),
        Flag("sync-period", duration, 30.0, "time between two looks whether all is as it should be"),
        Flag("health-address", str, "127.0.0.1", "address to serve health and metrics on"),
        Flag("health-port", int, 10261, "port to serve health and metrics on, -1: don't"),
        Flag("cleanup", boolean, False, "remove everything that this agent makes, and exit"),
    ],
)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    client: ClientConfig | None  # None for a clean-up
    settings: NetworkSettings
    health: tuple[str, int]
    cleanup: bool
    verbosity: int


def parse(arguments: Sequence[str]) -> Options:
    """Read the flags. Raises SettingsError."""
    flags = _FLAGS.parse(arguments)
    if flags["mtu"] and not 576 <= flags["mtu"] <= 65535:
        raise SettingsError(f"--mtu {flags['mtu']}: must be 0 or within [576, 65535]")
    if not 0 < flags["vxlan-id"] < 1 << 24:
        raise SettingsError(f"--vxlan-id {flags['vxlan-id']}: must be within [1, 16777215]")
    if not 0 < flags["vxlan-port"] < 65536:
        raise SettingsError(f"--vxlan-port {flags['vxlan-port']}: is not a port")
    client = None if flags["cleanup"] else component.client_config(flags)
    settings = NetworkSettings(
        node_name=(flags["node-name"] or flags["hostname-override"] or socket.gethostname()).strip().lower(),
        own_ip=flags["node-ip"] or (_own_ip(client.server) if client else ""),
        cni_folder=Path(flags["cni-conf-dir"]),
        overlay=OverlaySettings(flags["vxlan-id"], flags["vxlan-port"]),
        mtu=flags["mtu"],
        look_seconds=flags["sync-period"],
    )
    return Options(client, settings, (flags["health-address"], flags["health-port"]), flags["cleanup"], flags["v"])


async def run(options: Options) -> None:
    """Be the agent until cancelled, or clean up."""
    if options.client is None:
        await clean_up(options.settings.cni_folder)
        return
    async with Client(options.client, user_agent="network") as client, KernelNetwork() as kernel:
        informers = Informers(client)
        nodes = informers.of(NODES, transform=shrink_node)
        recorder = EventRecorder(client, component="network", host=options.settings.node_name)
        agent = NetworkAgent(nodes, kernel, options.settings, recorder, SystemClock())
        agent.watch()
        settings = options.settings
        policies = PolicyAgent(informers, settings.node_name, recorder, SystemClock(), settings.look_seconds)
        async with informers, asyncio.TaskGroup() as group:
            if options.health[1] >= 0:
                group.create_task(_serve_health(*options.health))
            await nodes.synced()
            group.create_task(recorder.run())
            group.create_task(policies.run())
            group.create_task(agent.run())


async def _serve_health(address: str, port: int) -> None:
    async with HealthServer(address, port):
        await asyncio.Event().wait()


def shrink_node(node: Object) -> Object:
    """A Node without what the network does not look at."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    return {
        "metadata": {name: metadata[name] for name in ("name", "uid", "resourceVersion") if name in metadata},
        "spec": {name: spec[name] for name in ("podCIDR", "podCIDRs") if name in spec},
        "status": {"addresses": status.get("addresses") or []},
    }


def _own_ip(server: str) -> str:
    """The address from which this host reaches the API server, or ""."""
    where = urlsplit(server)
    try:
        kind, _, protocol, _, target = socket.getaddrinfo(where.hostname, where.port or 443, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM, protocol) as probe:
            probe.connect(target)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return ""
