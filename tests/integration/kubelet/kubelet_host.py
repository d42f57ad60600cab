"""A host of the tests' own: a network namespace, a containerd with images, and a cgroup root.

The namespace is entered by the test process itself, so that an API server, the kubelet and clients in it meet on the
loopback of that namespace. Everything is gone with the block, also when the test fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import json
import os
import secrets
import shutil
import signal
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.command import run
from agent.cri.client import CriClient
from agent.cri.errors import CriError
from agent.kubelet import mounts
from agent.kubelet.cgroups.hierarchy import Hierarchy
from lab.images import catalogue
from lab.images.layer import Image

_CLONE_NEWNET = 0x40000000
_CAP_SYS_RESOURCE = 24
_libc = ctypes.CDLL(None, use_errno=True)

PAUSE, BUSYBOX, ECHO = "docker.io/library/pause:3.10", "docker.io/library/busybox:1.35", "docker.io/library/echo:1.0"


@dataclass
class TestHost:
    """Where things are."""

    __test__ = False

    directory: Path
    cgroup_root: str
    containerd: asyncio.subprocess.Process | None = None

    async def start_containerd(self) -> None:
        with (self.directory / "containerd.log").open("ab") as log:
            self.containerd = await asyncio.create_subprocess_exec(
                "containerd", "--config", str(self.directory / "containerd.toml"), stdout=log, stderr=log
            )
        await _answering(self)

    async def stop_containerd(self, number: int = signal.SIGTERM) -> None:
        if self.containerd is not None:
            self.containerd.send_signal(number)
            await self.containerd.wait()
            self.containerd = None

    def leftovers(self) -> dict[str, list[str]]:
        """What pods leave behind if the kubelet or the runtime forgets something."""
        state = self.directory / "containerd-state" / "io.containerd.runtime.v2.task" / "k8s.io"
        trees = Hierarchy.detect()
        groups = [f"{self.cgroup_root}/kubepods{kind}" for kind in ("", "/burstable", "/besteffort")]
        found = {
            "addresses": [p.name for p in self.directory.glob("ipam/pods/10.*")],
            "mounts": [p for p in mounts.below(str(self.directory)) if p != str(self.directory)],
            "tasks": [p.name for p in state.iterdir()] if state.is_dir() else [],
            "groups": [c for group in groups for c in trees.children(group) if c.startswith("pod")],
            "processes": [str(pid) for pid in trees.processes(self.cgroup_root)],
            "directories": [p.name for p in self.directory.glob("kubelet/pods/*")],
            "logs": [p.name for p in self.directory.glob("log/pods/*")],
            "log links": [p.name for p in self.directory.glob("log/containers/*")],
            "network namespaces": _namespaces(self.directory),
        }
        return {kind: sorted(names) for kind, names in found.items() if names}

    @property
    def socket(self) -> str:
        return f"unix://{self.directory}/containerd.sock"

    async def ctr(self, *arguments: str) -> str:
        return (
            await run("ctr", "-a", f"{self.directory}/containerd.sock", "-n", "k8s.io", *arguments, check=True)
        ).text


def _namespaces(directory: Path) -> list[str]:
    """Network namespaces of this host's sandboxes: CNI results name them."""
    return [p.name for p in Path("/var/lib/cni/results").glob("pods-*") if str(directory) in p.read_text()]


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextmanager
def own_network() -> Iterator[None]:
    """A network namespace of our own, for this thread and what it starts."""
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        yield
    finally:
        _call("setns", back, _CLONE_NEWNET)
        os.close(back)


def archive(images: list[Image]) -> bytes:
    """The images as an OCI layout in a tar, as `ctr images import` reads it."""
    buffer = io.BytesIO()
    index: dict[str, object] = {"schemaVersion": 2, "manifests": []}
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        blobs = {blob.digest: blob.data for image in images for blob in (*image.blobs, image.manifest)}
        index["manifests"] = [
            {**image.manifest.descriptor, "annotations": {"io.containerd.image.name": f"docker.io/library/{name}"}}
            for image in images
            for name in image.names
        ]
        files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode()}
        files["index.json"] = json.dumps(index).encode()
        files |= {f"blobs/{digest.replace(':', '/')}": data for digest, data in blobs.items()}
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def containerd_config(directory: Path) -> str:
    status = Path("/proc/self/status").read_text()
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    restrict = "false" if mask >> _CAP_SYS_RESOURCE & 1 else "true"
    return f"""
version = 2
root = "{directory}/containerd"
state = "{directory}/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{directory}/containerd.sock"
[ttrpc]
  address = "{directory}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = {restrict}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
"""


def cni_config(directory: Path) -> str:
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{directory}/ipam",
                        "ranges": [[{"subnet": "10.77.0.0/16"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
    )


@asynccontextmanager
async def running_host() -> AsyncIterator[TestHost]:
    """A host with a containerd that has the lab's images."""
    directory = Path(tempfile.mkdtemp(prefix="nv-kubelet-"))
    host = TestHost(directory, f"/nv-kubelet-{secrets.token_hex(4)}")
    with own_network():
        try:
            await run("ip", "link", "set", "lo", "up", check=True)
            await run("ip", "addr", "add", "10.76.0.1/24", "dev", "lo", check=True)
            # containerd's overlays can't lie on an overlay.
            mounts.tmpfs(str(directory), mode=0o711)
            (directory / "cni").mkdir()
            (directory / "cni" / "10-pods.conflist").write_text(cni_config(directory))
            (directory / "containerd.toml").write_text(containerd_config(directory))
            async with _containerd(host):
                yield host
        finally:
            _remove_cgroups(host.cgroup_root)
            for point in list(mounts.below(str(directory))):
                mounts.unmount(point)
    shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def _containerd(host: TestHost) -> AsyncIterator[None]:
    await host.start_containerd()
    try:
        tar = host.directory / "images.tar"
        tar.write_bytes(archive(await catalogue.build()))
        await host.ctr("images", "import", str(tar))
        tar.unlink()
        yield
    finally:
        await _remove_everything(host)
        await host.stop_containerd()


async def _answering(host: TestHost) -> None:
    async with CriClient(host.socket) as cri, asyncio.timeout(30):
        while True:
            with contextlib.suppress(CriError):
                await cri.status()
                return
            await asyncio.sleep(0.05)


async def _remove_everything(host: TestHost) -> None:
    async with CriClient(host.socket) as cri:
        for _ in range(5):
            sandboxes = await cri.list_pod_sandboxes()
            for sandbox in sandboxes:
                with contextlib.suppress(CriError):
                    await cri.stop_pod_sandbox(sandbox.id)
                    await cri.remove_pod_sandbox(sandbox.id)
            if not sandboxes:
                return


def _remove_cgroups(root: str) -> None:
    trees = Hierarchy.detect()
    trees.kill(root)
    trees.remove(root)
