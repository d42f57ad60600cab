"""A node of the tests' own: an API server, and a kubelet process on a test host."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kubelet_host import TestHost, running_host

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import RunningServer, authority, running_apiserver
from machinery import pki
from machinery.api import meta
from machinery.api.catalogue import CONFIGMAPS, EVENTS, NODES, PODS, SERVICEACCOUNTS
from machinery.api.meta import Object
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import NotFound

NODE = "n1"
NODE_IP = "10.76.0.1"
Found = TypeVar("Found")
_NODE_TOKEN = "node-token"
_REPOSITORY = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class TestNode:
    """The API server's client, and the kubelet."""

    __test__ = False

    host: TestHost
    client: Client
    api: RunningServer
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    """Of the kubelet, besides the tests' own."""
    process: asyncio.subprocess.Process | None = None
    namespace: str = "default"
    _count: int = field(default=0)

    @property
    def directory(self) -> Path:
        return self.host.directory

    @property
    def log(self) -> str:
        return (self.directory / "kubelet.log").read_text(errors="replace")

    # -- the kubelet -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        with (self.directory / "kubelet.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agent.kubelet",
                f"--config={self.directory}/config.yaml",
                f"--kubeconfig={self.directory}/kubeconfig",
                f"--root-dir={self.directory}/kubelet",
                f"--cert-dir={self.directory}/pki",
                f"--hostname-override={NODE}",
                f"--node-ip={NODE_IP}",
                "--node-labels=disk=ssd",
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(_REPOSITORY), **self.environment},
            )

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()

    async def ready(self) -> Object:
        async def node_ready() -> Object | None:
            try:
                node = await self.client.get(NODES, NODE)
            except NotFound:
                return None
            found = meta.condition(node.get("status", {}).get("conditions"), "Ready")
            return node if found is not None and found["status"] == "True" else None

        return await eventually(node_ready, "the node to be ready")

    # -- pods --------------------------------------------------------------------------------------------------------

    def name(self, stem: str = "p") -> str:
        self._count += 1
        return f"{stem}-{self._count}"

    async def create(self, spec: Object, *, name: str = "", metadata: Object | None = None) -> str:
        """Create a pod on the node; its name."""
        name = name or self.name()
        defaults = {"nodeName": NODE, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, **(metadata or {})},
            "spec": {**defaults, **spec},
        }
        await self.client.create(PODS, pod)
        return name

    async def get(self, name: str) -> Object:
        return await self.client.get(PODS, name, self.namespace)

    async def wait(self, name: str, holds: Callable[[Object], Any], what: str, seconds: float = 30) -> Object:
        """The pod, once this holds of it."""

        async def look() -> Object | None:
            pod = await self.get(name)
            return pod if holds(pod) else None

        try:
            return await eventually(look, what, seconds)
        except AssertionError as error:
            pod = await self.get(name)
            raise AssertionError(f"{error}\n{pod.get('status')}\n{await self.events(name)}") from error

    async def wait_ready(self, name: str, seconds: float = 30) -> Object:
        return await self.wait(name, is_ready, f"{name} to be ready", seconds)

    async def wait_phase(self, name: str, phase: str, seconds: float = 30) -> Object:
        return await self.wait(name, lambda p: p["status"].get("phase") == phase, f"{name} to be {phase}", seconds)

    async def delete(self, name: str, grace_seconds: int | None = None) -> None:
        """Delete a pod and wait until it is gone."""
        try:
            await self.client.delete(PODS, name, self.namespace, grace_seconds=grace_seconds)
        except NotFound:
            return

        async def gone() -> bool | None:
            try:
                await self.get(name)
            except NotFound:
                return True
            return None

        await eventually(gone, f"{name} to be gone")

    async def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of the events about a pod."""
        found = await self.client.list(EVENTS, self.namespace, field_selector=f"involvedObject.name={name}")
        return [(event["reason"], event.get("message", "")) for event in found.items]

    async def wait_event(self, name: str, reason: str, text: str = "") -> str:
        async def look() -> str | None:
            return next((m for r, m in await self.events(name) if r == reason and text in m), None)

        try:
            return await eventually(look, f"event {reason} {text!r} about {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}, only {await self.events(name)}") from error

    async def logs(self, name: str, container: str = "c", **query: str) -> str:
        """A container's log, from the kubelet itself."""
        async with self.kubelet_client() as kubelet:
            path = f"/containerLogs/{self.namespace}/{name}/{container}"
            return "".join([line.decode() + "\n" async for line in kubelet.stream(path, query=query)])

    async def run_in(self, name: str, *command: str, container: str = "c") -> str:
        """What a command prints in a container."""
        pod = await self.get(name)
        statuses = [
            s
            for section in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
            for s in pod["status"].get(section) or ()
        ]
        own = next(s["containerID"].rpartition("/")[2] for s in statuses if s["name"] == container)
        self._count += 1
        return await self.host.ctr("tasks", "exec", "--exec-id", f"x{self._count}", own, *command)

    def kubelet_client(self, *, groups: tuple[str, ...] = ("system:masters",)) -> Client:
        """A client of the kubelet's own server, with a certificate of the cluster's authority."""
        pair = pki.issue(authority(), "admin", organizations=groups, usages=pki.CLIENT_USAGES, algorithm="ECDSA-P256")
        config = ClientConfig(
            f"https://127.0.0.1:{self.port}",
            client_certificate=pair.certificate_pem,
            client_key=pair.key_pem,
            insecure=True,
        )
        return Client(config, user_agent="test")

    def pod_dirs(self) -> list[str]:
        return sorted(os.listdir(self.directory / "kubelet" / "pods"))


def is_ready(pod: Object) -> bool:
    found = meta.condition(pod.get("status", {}).get("conditions"), "Ready")
    return found is not None and found["status"] == "True"


def container_status(pod: Object, name: str = "c", section: str = "containerStatuses") -> Object:
    found: Object = next((s for s in pod["status"].get(section) or () if s["name"] == name), {})
    return found


def box(*command: str, **fields: Any) -> Object:
    """A busybox container `c`."""
    return {"name": "c", "image": "busybox:1.35", "imagePullPolicy": "IfNotPresent", "command": [*command], **fields}


def shell(script: str, **fields: Any) -> Object:
    """A busybox container that runs a script."""
    return box("sh", "-c", script, **fields)


async def eventually(look: Callable[[], Awaitable[Found | None]], what: str, seconds: float = 30) -> Found:
    """What `look` finds, as soon as it finds something."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await look()
                if found:
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s for {what}") from None


def kubeconfig(api: RunningServer, token: str) -> str:
    """A kubeconfig for the server, with a token."""
    ca = base64.b64encode(api.ca).decode()
    return f"""
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{api.url}", certificate-authority-data: {ca}}}}}]
users: [{{name: test, user: {{token: {token}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


def _configuration(host: TestHost, port: int, extra: str) -> str:
    directory = host.directory
    return f"""
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: {directory}/manifests
containerRuntimeEndpoint: {host.socket}
cgroupRoot: {host.cgroup_root}
podLogsDir: {directory}/log/pods
address: 127.0.0.1
port: {port}
healthzPort: 0
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: {directory}/resolv.conf
authentication: {{x509: {{clientCAFile: {directory}/ca.crt}}}}
{extra}
"""


def _settings(directory: Path) -> Settings:
    """An API server as clusters have it: the kubelet may do what a node may, and no more."""
    (directory / "tokens.csv").write_text(f'{_NODE_TOKEN},system:node:{NODE},node,"system:nodes"\n')
    key = directory / "sa.key"
    key.write_bytes(pki.key_pem(pki.new_key()))
    return Settings(
        token_auth_file=str(directory / "tokens.csv"),
        service_account_issuers=("https://kubernetes.default.svc",),
        service_account_key_files=(str(key),),
        service_account_signing_key_file=str(key),
        authorization_modes=("Node", "RBAC"),
        enable_admission_plugins=("NodeRestriction",),
        disable_admission_plugins=("PodResizeValidator",),  # the kubelet is to refuse by itself
        allow_privileged=True,
    )


@asynccontextmanager
async def running_node(extra_config: str = "", environment: dict[str, str] | None = None) -> AsyncIterator[TestNode]:
    """A node that is ready, with an API server that knows it."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(running_host())
        directory, port = host.directory, free_port()
        factories = (authn.build, authz.build, admission.build)
        api = await stack.enter_async_context(running_apiserver(_settings(directory), factories=factories))
        (directory / "manifests").mkdir()
        (directory / "config.yaml").write_text(_configuration(host, port, extra_config))
        (directory / "kubeconfig").write_text(kubeconfig(api, _NODE_TOKEN))
        (directory / "ca.crt").write_bytes(api.ca)
        (directory / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example.org\noptions edns0\n")
        client = Client(ClientConfig(api.url, ca_data=api.ca, token=api.token), user_agent="test")
        await stack.enter_async_context(client)
        await _make_what_controllers_make(client, api)
        node = TestNode(host, client, api, port, environment or {})
        try:
            await node.start()
            await node.ready()
            yield node
        finally:
            await node.stop()


async def _make_what_controllers_make(client: Client, api: RunningServer) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    await client.create(SERVICEACCOUNTS, account)
    root = {"name": "kube-root-ca.crt", "namespace": "default"}
    data = {"ca.crt": api.ca.decode()}
    await client.create(CONFIGMAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": root, "data": data})
