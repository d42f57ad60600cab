"""The components in one process: API server first; what uses it once it answers.

They meet over HTTPS on the loopback interface, as anywhere, each as its own user with its own rights.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib import import_module

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.server import ApiServer
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.storage.compaction import compact_regularly
from controlplane.apiserver.storage.contract import Storage
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.storage.sqlite import open_storage
from controlplane.apiserver.tls import server_context
from lab.dev.home import ADDRESS, CONTROLLERS, HOLLOW_NODES, SCHEDULER, Home
from lab.dev.settings import DevSettings
from lab.errors import LabError
from machinery.api.catalogue import SERVICEACCOUNTS
from machinery.clock import SystemClock
from machinery.errors import AlreadyExists, SettingsError

POD_NETWORK = "10.128.0.0/9"
"""What hollow nodes give their pods addresses from; nothing answers there."""
_SERVICES = "10.96.0.0/12"


async def run(settings: DevSettings, home: Home, on_ready: Callable[[int], None]) -> None:
    """Run everything until cancelled; `on_ready` is told the port when the API server is ready and hollow nodes are
    registered. The other components begin a moment later: what they are made of takes as long to load as all before.

    Raises:
        LabError: the port can't be had.
        SettingsError: the store can't be used.
    """
    storage: Storage = MemoryStorage() if settings.store == "memory" else open_storage(home.store)
    try:
        async with _api_server(settings, home, storage) as server, asyncio.TaskGroup() as group:
            interval, cacher = server.settings.etcd_compaction_interval_seconds, server.cacher
            group.create_task(compact_regularly(storage, cacher.prefix, interval, SystemClock(), cacher.forget_before))
            await _make_account(server)
            home.write_kubeconfig(server.port)
            if settings.hollow_nodes:
                await _start_nodes(settings.hollow_nodes, home, server.port, group)
            on_ready(server.port)
            await _start_components(home, server.port, group)
            await asyncio.Event().wait()
    finally:
        await storage.close()


@contextlib.asynccontextmanager
async def _api_server(settings: DevSettings, home: Home, storage: Storage) -> AsyncIterator[ApiServer]:
    home.write_tokens()
    flags = _api_settings(settings.port, home)
    server = ApiServer(flags, storage, (authn.build, authz.build, admission.build), tls=server_context(flags))
    try:
        await server.__aenter__()
    except SettingsError as exc:
        raise LabError(str(exc).replace("--secure-port", "--port")) from exc
    try:
        await server.ready()
        yield server
    finally:
        await server.__aexit__(None, None, None)


async def _make_account(server: ApiServer) -> None:
    """The one object of the controllers' that the first `kubectl run` needs, so that it need not wait for them."""
    metadata = {"name": "default", "namespace": "default"}
    with contextlib.suppress(AlreadyExists):
        await server.loopback.create(SERVICEACCOUNTS, {"metadata": metadata})


async def _start_nodes(count: int, home: Home, port: int, group: asyncio.TaskGroup) -> None:
    from lab.dev.hollow.nodes import HollowNodes  # what it needs is not loaded where there are none

    nodes = HollowNodes(count, SystemClock())
    group.create_task(nodes.run(home.client(port, HOLLOW_NODES)))
    await nodes.registered.wait()


async def _start_components(home: Home, port: int, group: asyncio.TaskGroup) -> None:
    components = await asyncio.to_thread(import_module, "lab.dev.components")  # the API server answers meanwhile
    group.create_task(components.schedule(home.client(port, SCHEDULER)))
    group.create_task(components.control(home.client(port, CONTROLLERS), home.pki))


def _api_settings(port: int, home: Home) -> Settings:
    def file(name: str) -> str:
        return str(home.pki / name)

    return Settings(
        bind_address=ADDRESS,
        advertise_address=ADDRESS,
        secure_port=port,
        tls_cert_file=file("apiserver.crt"),
        tls_private_key_file=file("apiserver.key"),
        client_ca_file=file("ca.crt"),
        token_auth_file=str(home.tokens),
        enable_bootstrap_token_auth=True,
        service_account_issuers=("https://kubernetes.default.svc.cluster.local",),
        service_account_key_files=(file("sa.pub"),),
        service_account_signing_key_file=file("sa.key"),
        requestheader_client_ca_file=file("front-proxy-ca.crt"),
        requestheader_allowed_names=("front-proxy-client",),
        requestheader_username_headers=("X-Remote-User",),
        requestheader_group_headers=("X-Remote-Group",),
        requestheader_extra_headers_prefix=("X-Remote-Extra-",),
        proxy_client_cert_file=file("front-proxy-client.crt"),
        proxy_client_key_file=file("front-proxy-client.key"),
        kubelet_client_certificate=file("apiserver-kubelet-client.crt"),
        kubelet_client_key=file("apiserver-kubelet-client.key"),
        kubelet_preferred_address_types=("InternalDNS",),  # hollow nodes' own; see hollow/nodes.py
        authorization_modes=("Node", "RBAC"),
        enable_admission_plugins=("NodeRestriction",),
        allow_privileged=True,
        service_cluster_ip_ranges=(_SERVICES,),
        components=(),  # they are in this process: if it answers, they run
    )
