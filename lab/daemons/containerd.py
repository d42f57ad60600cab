"""containerd: its configuration, as the machine needs it.

Source: https://github.com/containerd/containerd/blob/release/1.6/docs/cri/config.md, …/docs/hosts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.hosts.mounts import mounts

CONFIG = "/etc/containerd/config.toml"
HOSTS = "/etc/containerd/certs.d/_default/hosts.toml"
SOCKET = "/run/containerd/containerd.sock"
ROOT = "/var/lib/containerd"
CNI_PROGRAMS = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins puts them."""

_CAP_SYS_RESOURCE = 24


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the machine lets containers do."""

    raise_oom_score: bool
    """CAP_SYS_RESOURCE: without it a sandbox's oom_score_adj can't be lowered, and every sandbox would fail."""
    overlay: bool
    """Whether overlayfs can be used on the state folder's file system."""

    @property
    def snapshotter(self) -> str:
        """By which images are unpacked."""
        return "overlayfs" if self.overlay else "native"


def abilities(state: Path) -> Abilities:
    """What this machine can do."""
    return Abilities(has_capability(Path("/proc/self/status").read_text(), _CAP_SYS_RESOURCE), overlay_works(state))


def has_capability(status: str, number: int) -> bool:
    """Whether /proc/PID/status shows the capability as effective."""
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(mask, 16) >> number & 1)


def overlay_works(state: Path) -> bool:
    """Overlayfs needs a kernel that knows it and a file system that is not an overlay itself."""
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        return False
    holding = [mount for mount in mounts() if mount.target == state or mount.target in state.parents]
    nearest = max(holding, key=lambda mount: len(mount.target.parts), default=None)
    return nearest is not None and nearest.kind != "overlay"


def command() -> list[str]:
    """In the foreground."""
    return ["containerd", "--config", CONFIG]


def configuration(sandbox_image: str, able: Abilities) -> str:
    """containerd's file."""
    return f"""\
version = 2
root = "{ROOT}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  restrict_oom_score_adj = {str(not able.raise_oom_score).lower()}
  max_concurrent_downloads = 3

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{able.snapshotter}"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""


def registry_hosts(address: str, port: int) -> str:
    """Every registry's images are looked for in the lab's own: `busybox`, `registry.k8s.io/pause:3.10`, …"""
    url = f"http://{address}:{port}"
    return f"""\
server = "{url}"

[host."{url}"]
  capabilities = ["pull", "resolve"]
"""
