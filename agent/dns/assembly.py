"""Building the DNS server from its command line and Corefile, and running it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.dns import probes
from agent.dns.configuration import Address, Configuration, Kubernetes, load
from agent.dns.resolver import Resolver
from agent.dns.responding import Responder
from agent.dns.server import DnsServer
from agent.dns.state import SERVICE_LABEL, ClusterState
from agent.dns.zone import ClusterZones
from machinery import component
from machinery.api.catalogue import ENDPOINTSLICES, NAMESPACES, PODS, SERVICES
from machinery.api.meta import Object
from machinery.cache.informer import Informer, Informers
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import SystemClock
from machinery.errors import SettingsError
from machinery.log import get_logger
from machinery.settings import Flag, FlagSet, strings

log = get_logger(__name__)

_FLAGS = FlagSet(
    "dns",
    [
        *component.LOG_FLAGS,
        *component.CLIENT_FLAGS,
        Flag("conf", str, "Corefile", "path to a Corefile"),
        Flag("bind-address", strings, [], "addresses to answer on; default: all"),
        Flag("port", int, 0, "port to answer on; default: the Corefile's"),
        Flag("own-services", strings, ["kube-system/kube-dns"], "Services that lead to this server: ns.dns.ZONE"),
    ],
)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    corefile: Path
    configuration: Configuration
    client: ClientConfig | None  # None where the Corefile does not name a cluster
    addresses: tuple[str, ...]
    port: int  # 0: the Corefile's
    own_services: tuple[str, ...]
    verbosity: int


def parse(arguments: Sequence[str]) -> Options:
    """Read flags and Corefile. Raises SettingsError."""
    # CoreDNS itself has its flags with one dash.
    flags = _FLAGS.parse([a.replace("-conf", "--conf", 1) if a.startswith("-conf") else a for a in arguments])
    configuration = load(Path(flags["conf"]))
    return Options(
        Path(flags["conf"]),
        configuration,
        component.client_config(flags) if configuration.kubernetes else None,
        tuple(flags["bind-address"]) or (("0.0.0.0", "::") if os.path.exists("/proc/net/if_inet6") else ("0.0.0.0",)),
        flags["port"],
        tuple(flags["own-services"]),
        flags["v"],
    )


async def run(options: Options) -> None:
    """Be the DNS server until cancelled, then go on answering for as long as the configuration says."""
    while True:
        configuration = options.configuration
        async with _running(options):
            try:
                changed = await _changed(options.corefile, configuration)
            except asyncio.CancelledError:
                await asyncio.sleep(configuration.lameduck_seconds)
                raise
        log.info("the Corefile has changed", file=str(options.corefile))
        options = replace(options, configuration=changed)


@asynccontextmanager
async def _running(options: Options) -> AsyncIterator[None]:
    configuration = options.configuration
    kubernetes = configuration.kubernetes
    resolver = Resolver(_without_loops(configuration.upstreams, options), configuration.caching, SystemClock())
    state = ClusterState()
    zones = ClusterZones(state, kubernetes, options.own_services) if kubernetes else None
    responder = Responder(zones, resolver, kubernetes.ttl_seconds if kubernetes else 0)
    state.on_change = responder.forget
    answering = False
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(probes.serving(configuration, lambda: [] if answering else ["kubernetes"]))
        if kubernetes is not None and options.client is not None:
            client = await stack.enter_async_context(Client(options.client, user_agent="navarch-dns"))
            informers = _informers(client, state, kubernetes)
            await stack.enter_async_context(informers)
            await informers.synced()
        server = DnsServer(responder, options.addresses, options.port or configuration.port)
        await stack.enter_async_context(server)
        answering = True
        log.info("answering", port=server.port, zones=kubernetes.zones if kubernetes else ())
        yield


def _informers(client: Client, state: ClusterState, kubernetes: Kubernetes) -> Informers:
    informers = Informers(client)
    informers.of(SERVICES, transform=_shrunk_service).on_change(state.service_changed)
    informers.of(NAMESPACES, transform=_name_alone).on_change(state.namespace_changed)
    slices: Informer = informers.of(ENDPOINTSLICES, label_selector=SERVICE_LABEL, transform=_shrunk_slice)
    slices.on_change(state.slice_changed)
    if kubernetes.pods == "verified":
        informers.of(PODS, transform=_shrunk_pod).on_change(state.pod_changed)
    return informers


def _without_loops(upstreams: Mapping[str, Sequence[Address]], options: Options) -> dict[str, Sequence[Address]]:
    """Without resolvers that would send every question back here, and without zones that nobody is left for."""
    own = {*options.addresses, "127.0.0.1", "::1"}
    found: dict[str, Sequence[Address]] = {}
    for zone, servers in upstreams.items():
        usable = [s for s in servers if s[0] not in own or s[1] != (options.port or options.configuration.port)]
        if usable:
            found[zone] = usable
        else:
            log.warning("nobody can be asked about names of this zone: they are refused", zone=zone or ".")
    return found


async def _changed(corefile: Path, known: Configuration) -> Configuration:
    """Wait until the file says something else that makes sense."""
    refused = ""
    while True:
        await asyncio.sleep(known.reload_seconds or float(1 << 30))
        try:
            now = load(corefile)
        except SettingsError as error:
            if str(error) != refused:
                log.error("the Corefile has changed and can't be used, going on with what it said before", error=error)
            refused = str(error)
            continue
        if now != known:
            return now


# -- what is kept of objects -----------------------------------------------------------------------------------------


def _metadata(obj: Object) -> Object:
    return {
        name: obj["metadata"][name]
        for name in ("name", "namespace", "uid", "resourceVersion")
        if name in obj["metadata"]
    }


def _name_alone(obj: Object) -> Object:
    return {"metadata": _metadata(obj)}


def _shrunk_service(service: Object) -> Object:
    spec = service.get("spec") or {}
    kept = ("type", "clusterIP", "clusterIPs", "externalName", "ports")
    return {"metadata": _metadata(service), "spec": {name: spec[name] for name in kept if name in spec}}


def _shrunk_slice(piece: Object) -> Object:
    metadata = _metadata(piece) | {"labels": piece["metadata"].get("labels") or {}}
    kept = ("addresses", "hostname", "conditions")
    endpoints = [{name: e[name] for name in kept if name in e} for e in piece.get("endpoints") or ()]
    return {
        "metadata": metadata,
        "addressType": piece.get("addressType"),
        "ports": piece.get("ports") or [],
        "endpoints": endpoints,
    }


def _shrunk_pod(pod: Object) -> Object:
    status = pod.get("status") or {}
    return {
        "metadata": _metadata(pod),
        "status": {name: status[name] for name in ("podIP", "podIPs") if name in status},
    }
