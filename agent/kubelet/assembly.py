"""The kubelet's parts, built in the order in which they need each other.

Source: kubelet's NewMainKubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent.cri.client import CriClient
from agent.kubelet.backoff import Backoff
from agent.kubelet.cgroups.hierarchy import Hierarchy
from agent.kubelet.cgroups.pods import PodCgroups
from agent.kubelet.collection.containers import ContainerCollector
from agent.kubelet.collection.images import ImageCollector
from agent.kubelet.collection.logs import LogRotation
from agent.kubelet.container import credentialproviders, environment
from agent.kubelet.container.credentialproviders import CredentialProviders
from agent.kubelet.container.images import ImageManager
from agent.kubelet.container.model import RUNNING
from agent.kubelet.container.resources import Rules
from agent.kubelet.container.userns import UserNamespaces
from agent.kubelet.container.view import RuntimeView
from agent.kubelet.eviction.manager import EvictionManager
from agent.kubelet.flags import Options
from agent.kubelet.kit import Kit, NodeFacts
from agent.kubelet.node import capacity, machine
from agent.kubelet.node.registrar import NodeInputs, NodeRegistrar
from agent.kubelet.node.runtimehealth import RuntimeHealth
from agent.kubelet.node.shutdown import Shutdown
from agent.kubelet.node.utilchains import UtilChains
from agent.kubelet.plugins.csidrivers import CsiDrivers
from agent.kubelet.plugins.deviceplugins import DevicePlugins
from agent.kubelet.plugins.devicerecords import DeviceRecords
from agent.kubelet.plugins.devices import DeviceManager
from agent.kubelet.plugins.dra import DraManager
from agent.kubelet.plugins.podresources import PodResources
from agent.kubelet.plugins.registry import CSI, DEVICE, DRA, PluginHandler, PluginRegistry
from agent.kubelet.pods.allocation import Allocations
from agent.kubelet.pods.manager import PodManager
from agent.kubelet.pods.mirror import Mirrors
from agent.kubelet.pods.statusmanager import StatusManager
from agent.kubelet.probes.handlers import Handlers
from agent.kubelet.probes.manager import ProbeManager
from agent.kubelet.references import References
from agent.kubelet.resources.cpus import CpuManager
from agent.kubelet.resources.memory import MemoryManager
from agent.kubelet.resources.sharing import CpuSharing
from agent.kubelet.resources.topology import Topology, read_topology
from agent.kubelet.resources.topologymanager import TopologyManager
from agent.kubelet.runtimeclass import RuntimeClasses
from agent.kubelet.server.checkpoint import DIRECTORY as CHECKPOINTS
from agent.kubelet.settings import Settings
from agent.kubelet.slots import Slots
from agent.kubelet.telling import Teller
from agent.kubelet.volumes.csi import CsiVolumes
from agent.kubelet.volumes.csiobjects import CsiObjects
from agent.kubelet.volumes.manager import VolumeManager
from agent.kubelet.volumes.persistent import PersistentVolumes
from agent.kubelet.volumes.projection import Sources
from agent.kubelet.volumes.tokens import Tokens
from agent.kubelet.volumes.trustbundles import TrustBundles
from machinery.api.catalogue import SERVICES
from machinery.cache.informer import Informers
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.errors import SettingsError, StatusError, TransportError
from machinery.events import EventRecorder

_CRASH_SECONDS = 10.0
_OWN_DIRS = ("pods", "plugins", "plugins_registry", "seccomp", "device-plugins", "pod-resources", CHECKPOINTS)

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Host:
    """What the node is, found out once at the start."""

    options: Options
    facts: machine.Machine
    cgroups: PodCgroups
    rules: Rules
    node: NodeFacts
    inputs: NodeInputs
    topology: Topology


@dataclass
class Parts:
    """The parts that run; `tasks` are those that only have to be kept running."""

    kit: Kit
    manager: PodManager
    health: RuntimeHealth
    view: RuntimeView
    informers: Informers | None
    registrar: NodeRegistrar | None
    client: Client | None
    tasks: dict[str, Run] = field(default_factory=dict)


async def look_at_host(options: Options) -> Host:
    """Directories, machine and control groups. Raises SettingsError for what can't work."""
    settings = options.settings
    _make_directories(options.root_dir, settings.pod_logs_dir)
    facts = await asyncio.to_thread(machine.read_machine)
    if settings.fail_swap_on and facts.swap_bytes:
        raise SettingsError("running with swap on is not supported, please disable swap or set --fail-swap-on=false")
    ips = await asyncio.to_thread(machine.default_address, options.node_ips)
    has = capacity.capacity(facts, settings, _disk_bytes(options.root_dir))
    may_use = capacity.allocatable(has, settings)
    hierarchy = Hierarchy.detect()
    if settings.swap_behavior == "LimitedSwap" and not hierarchy.unified:
        raise SettingsError(
            "invalid configuration: memorySwap.swapBehavior LimitedSwap is not supported with cgroup v1"
        )
    cgroups = PodCgroups(settings, hierarchy)
    limit = may_use if settings.enforce_allocatable else has
    cgroups.set_up(limit["cpu"].milli_value(), has["memory"].value() - _reserved_memory(settings))
    node = NodeFacts(options.node_name, facts.memory_bytes, ips, may_use)
    topology = await asyncio.to_thread(read_topology, memory_bytes=facts.memory_bytes)
    inputs = NodeInputs(options, facts, ips, has, may_use)
    return Host(options, facts, cgroups, _rules(settings, facts, hierarchy), node, inputs, topology)


def _rules(settings: Settings, facts: machine.Machine, hierarchy: Hierarchy) -> Rules:
    return Rules(
        memory_bytes=facts.memory_bytes,
        swap_bytes=facts.swap_bytes,
        unified=hierarchy.unified,
        can_limit_swap=hierarchy.can_limit_swap(),
        limited_swap=settings.swap_behavior == "LimitedSwap",
        page_sizes=hierarchy.page_sizes(),
        cfs_quota=settings.cpu_cfs_quota,
        period_seconds=settings.cpu_cfs_period_seconds,
        single_process_oom_kill=settings.single_process_oom_kill,
    )


def build(host: Host, cri: CriClient, client: Client | None, clock: Clock, stack: contextlib.AsyncExitStack) -> Parts:
    """All parts; what has to be closed is left to `stack`."""
    options, settings = host.options, host.options.settings
    informers = Informers(client) if client is not None else None
    recorder = EventRecorder(client, component="kubelet", host=options.node_name) if client is not None else None
    teller = Teller(recorder, options.node_name)
    health = RuntimeHealth(cri, host.node)
    prefers_ipv6 = ":" in "".join(options.node_ips[:1])
    view = RuntimeView(cri, lambda uid: manager.runtime_changed(uid), prefers_ipv6=prefers_ipv6)
    handlers = Handlers(cri)
    stack.push_async_callback(handlers.close)
    probes = ProbeManager(handlers, teller, lambda uid: manager.probe_changed(uid), clock)
    stack.push_async_callback(probes.close)
    references = References(client, informers, lambda uid: manager.reference_changed(uid))
    tokens = Tokens(client)
    providers = CredentialProviders(credentialproviders.load(options.credential_config, options.credential_dir))
    images = ImageManager(cri, options.root_dir, settings, providers)
    stack.push_async_callback(images.close)
    registrar = _registrar(host, client, cri, health, view, clock, teller)
    mirrors = Mirrors(client, lambda: registrar.node if registrar is not None else None)
    services = informers.of(SERVICES) if informers is not None else None
    drivers = CsiDrivers(client, options.node_name, lambda: registrar.node if registrar is not None else None)
    csi = CsiVolumes(options.root_dir, drivers, CsiObjects(client, tokens, options.node_name))
    devices, cpus, memory = _placed(host, view, clock, lambda: _devices_changed(host.node, devices, registrar))
    claims = DraManager(options.root_dir, client, options.node_name)
    host.cgroups.has_exclusive_cpus = cpus.has_exclusive
    kit = Kit(
        settings=settings,
        root_dir=options.root_dir,
        node=host.node,
        clock=clock,
        cri=cri,
        view=view,
        images=images,
        volumes=VolumeManager(
            options.root_dir, Sources(references, tokens, TrustBundles(client)), PersistentVolumes(client, csi), csi
        ),
        tokens=tokens,
        references=references,
        handlers=handlers,
        probes=probes,
        statuses=StatusManager(client, mirrors.get),
        cgroups=host.cgroups,
        rules=host.rules,
        teller=teller,
        crashes=Backoff(min(_CRASH_SECONDS, settings.crash_loop_max_seconds), settings.crash_loop_max_seconds),
        slots=Slots(max(2, os.cpu_count() or 1)),
        runtime_classes=RuntimeClasses(client),
        services=lambda pod: environment.known_services(services, pod),
        allocations=Allocations(options.root_dir),
        devices=devices,
        claims=claims,
        user_namespaces=UserNamespaces(options.root_dir, settings.user_ids_per_pod),
        cpus=cpus,
        memory=memory,
        topology=TopologyManager(settings, host.topology, (devices, cpus, memory)),
        active_pods=lambda: manager.active_pods,
    )
    manager = PodManager(kit, mirrors, lambda: (registrar.node if registrar else None) or {})
    parts = Parts(kit, manager, health, view, informers, registrar, client)
    parts.tasks |= {"runtime view": view.run, "pod statuses": kit.statuses.run}
    if recorder is not None:
        parts.tasks["events"] = recorder.run
    _add_collection(parts)
    _add_plugins(parts, drivers, csi, stack)
    shutdown = Shutdown(kit, manager.end, registrar.poke if registrar is not None else lambda: None)
    manager.gates.append(shutdown.refuse)
    health.is_shutting_down = lambda: shutdown.is_under_way
    parts.tasks["node shutdown"] = shutdown.run
    if settings.make_util_chains:
        parts.tasks["iptables chains"] = UtilChains(clock).run
    return parts


def _placed(
    host: Host, view: RuntimeView, clock: Clock, on_change: Callable[[], None]
) -> tuple[DeviceManager, CpuManager, MemoryManager]:
    """Those who give pods what has a place on the machine. Raises SettingsError."""
    options, settings, topology = host.options, host.options.settings, host.topology
    directory = os.path.join(options.root_dir, "device-plugins")
    records = DeviceRecords(directory)

    def is_running(uid: str, name: str) -> bool:
        status = view.pod(uid).container(name)
        return status is not None and status.state == RUNNING

    plugins = DevicePlugins(directory, clock, records, on_change)
    kept = capacity.kept_from_pods(host.inputs.capacity, settings)
    return (
        DeviceManager(plugins, records, sorted(topology.nodes), is_running),
        CpuManager(options.root_dir, settings, topology),
        MemoryManager(options.root_dir, settings, topology, kept),
    )


def _devices_changed(node: NodeFacts, devices: DeviceManager, registrar: NodeRegistrar | None) -> None:
    node.allocatable = {**node.allocatable, **devices.plugins.amounts()[1]}
    if registrar is not None:
        registrar.poke()


def _add_plugins(parts: Parts, drivers: CsiDrivers, csi: CsiVolumes, stack: contextlib.AsyncExitStack) -> None:
    """Drivers of volumes, devices and dynamic resources, and what tells others who has what."""
    kit, registrar = parts.kit, parts.registrar
    handlers: dict[str, PluginHandler] = {CSI: drivers, DEVICE: kit.devices.plugins, DRA: kit.claims}
    directory = os.path.join(kit.root_dir, "plugins_registry")
    registry = PluginRegistry(directory, handlers, kit.clock)
    stack.push_async_callback(drivers.close)
    stack.push_async_callback(kit.claims.close)

    async def follow_plugins() -> None:
        if registrar is not None:
            await registrar.registered.wait()  # what drivers say belongs to the node's object
        with contextlib.suppress(StatusError, TransportError):  # the first driver makes it otherwise
            await drivers.ensure()
        await registry.run()

    if registrar is not None:
        registrar.of_plugins = kit.devices.plugins.amounts
        registrar.volumes_in_use = lambda: [
            f"kubernetes.io/csi/{driver}^{handle}" for driver, handle, inline in csi.in_use() if not inline
        ]
    parts.tasks |= {
        "plugins": follow_plugins,
        "device plugins": kit.devices.plugins.run,
        "pod resources": PodResources(kit).run,
        "shared CPUs": CpuSharing(kit).run,
    }


def _add_collection(parts: Parts) -> None:
    """What keeps the node from running out of anything."""
    kit = parts.kit
    containers, images = ContainerCollector(kit), ImageCollector(kit)
    eviction = EvictionManager(kit, images, containers, parts.manager.end)
    parts.manager.gates.append(eviction.refuse)
    if parts.registrar is not None:
        parts.registrar.pressures = lambda: eviction.pressures
        eviction.on_change(parts.registrar.poke)
    parts.tasks |= {
        "container garbage collection": containers.run,
        "image garbage collection": images.run,
        "log rotation": LogRotation(kit).run,
        "eviction": eviction.run,
    }


def _registrar(
    host: Host,
    client: Client | None,
    cri: CriClient,
    health: RuntimeHealth,
    view: RuntimeView,
    clock: Clock,
    teller: Teller,
) -> NodeRegistrar | None:
    if client is None:
        return None

    async def problems() -> Sequence[str]:
        return health.problems(view)

    return NodeRegistrar(client, cri, host.inputs, clock, problems, teller.node)


def _make_directories(root_dir: str, pod_logs_dir: str) -> None:
    try:
        os.makedirs(root_dir, mode=0o700, exist_ok=True)
        for name in _OWN_DIRS:
            os.makedirs(os.path.join(root_dir, name), mode=0o750, exist_ok=True)
        os.makedirs(pod_logs_dir, mode=0o755, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot make {error.filename}: {error.strerror}") from error


def _disk_bytes(path: str) -> int:
    found = machine.disk(path)
    return found.f_blocks * found.f_frsize


def _reserved_memory(settings: Settings) -> int:
    reserved = capacity.reservations(settings).get("memory")
    return reserved.value() if reserved is not None else 0
