"""A host as namespaces: network, mount, UTS and cgroup, with private copies of the paths a Kubernetes host uses.

The namespaces live as long as they are mounted below /run/navarch; no process is needed to hold them.  `setup_script`
is what runs inside once; `entry` wraps a command so that it runs inside.

Source: namespaces(7), mount_namespaces(7), unshare(1), nsenter(1).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError
from lab.hosts import cgroups
from lab.hosts.cgroups import CGROUP_ROOT, Hierarchy
from lab.hosts.mounts import mounts_under
from lab.layout import NETWORK, Layout

PRIVATE = (
    "/etc/kubernetes",
    "/etc/cni",
    "/etc/containerd",
    "/var/lib/etcd",
    "/var/lib/etcd-snapshots",
    "/var/lib/kubelet",
    "/var/lib/kube-proxy",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/docker-registry",
    "/var/log/pods",
    "/var/log/containers",
)
"""Folders each host has for itself, bound from its root. /run is the host's too: a file system in memory.

/tmp is the machine's, since the checkout may lie there.
"""

SHARED_PROPAGATION = ("/var/lib/kubelet",)
"""Where containers' mounts must reach the host and the other way round (mountPropagation)."""

FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Files each host has for itself."""

KINDS = ("net", "mnt", "uts", "cgroup")

_FLAGS = {"net": "--net", "mnt": "--mount", "uts": "--uts", "cgroup": "--cgroup"}

MACHINE = "machine"
"""The name of the machine's own network among those of the hosts."""

SYSTEM_SLICE = "system.slice"
"""The cgroup of a host's daemons; beside it the kubelet makes `kubepods`."""


VISITORS = "user.slice"
"""The cgroup of those who come from outside (`navarch enter`); a leaf, as a v2 cgroup with processes must be."""


def setup_script(host: str, root: Path, trees: Sequence[Hierarchy], networks: Mapping[str, Path]) -> str:
    """The shell script that, inside new namespaces, makes them into the host.

    `networks` are network namespaces that programs on the host may name, as `ip netns` and HAProxy do.
    """
    q = shlex.quote
    run = q(f"{root}/run")
    lines = [
        "set -eu",
        f"hostname {q(host)}",
        f"mkdir -p {run}",
        f"mount -t tmpfs -o mode=755,nosuid,nodev tmpfs {run}",
    ]
    lines.append(f"cd {run}; mkdir -p lock netns containerd haproxy; cd /")
    for name, namespace in networks.items():
        lines.append(f": > {run}/netns/{q(name)}; mount --bind {q(str(namespace))} {run}/netns/{q(name)}")
    lines.append(f"mount -n --move {run} /run")
    lines += [f"mount --bind {q(str(root) + folder)} {folder}" for folder in PRIVATE]
    lines += [f"mount --make-shared {folder}" for folder in SHARED_PROPAGATION]
    for file in FILES:
        # A link (as resolv.conf often is) may point into the /run that has just been covered.
        lines.append(f'f=$(readlink -m {file}); mkdir -p "${{f%/*}}"; [ -e "$f" ] || : > "$f"')
        lines.append(f'mount --bind {q(str(root) + file)} "$f"')
    lines += ["umount -R -l /sys", "mount -t sysfs sysfs /sys"]
    if all(tree.mount != CGROUP_ROOT for tree in trees):
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {CGROUP_ROOT}")
    for tree in sorted(trees, key=lambda each: each.mount):
        mount = q(str(tree.mount))
        kind = "cgroup2 cgroup2" if tree.version == 2 else f"cgroup -o {q(tree.options)} cgroup"
        lines.append(f"mkdir -p {mount}; mount -t {kind} {mount}")
    lines += [
        "ip link set lo up",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        # A pod's packets to its own node's services come back through the bridge: let netfilter see them, where it can.
        "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || true",
        "echo 1 > /proc/sys/net/ipv4/vs/conntrack 2>/dev/null || true",
    ]
    return "\n".join(lines) + "\n"


def into_cgroup(trees: Sequence[Hierarchy], path: str, argv: Sequence[str]) -> list[str]:
    """The command, run by way of a shell that first enters the cgroup in every tree. The process id stays the same."""
    files = cgroups.entry_files(trees, path)
    script = 'while [ "$1" != -- ]; do echo 0 > "$1"; shift; done; shift; exec "$@"'
    return ["sh", "-eu", "-c", script, "sh", *files, "--", *argv]


def entry(layout: Layout, trees: Sequence[Hierarchy], host: str, cgroup: str, argv: Sequence[str]) -> list[str]:
    """The command, run inside the host, in the cgroup named relative to the host's root (which must be there)."""
    spaces = [f"{_FLAGS[kind]}={layout.namespace(host, kind)}" for kind in KINDS]
    inner = ["nsenter", *spaces, "--", *argv]
    return into_cgroup(trees, f"{layout.cgroup}/{host}/{cgroup}", inner)


def visit(layout: Layout, trees: Sequence[Hierarchy], host: str, argv: Sequence[str]) -> list[str]:
    """The command, run inside the host beside its daemons. Makes the cgroup that such visitors share."""
    cgroups.create(trees, f"{layout.cgroup}/{host}/{VISITORS}")
    return entry(layout, trees, host, VISITORS, argv)


async def create_network(layout: Layout) -> None:
    """Make the namespace that holds the bridge."""
    await _unshare(layout, NETWORK, ("net",), ["ip", "link", "set", "lo", "up"])
    # Forwarding without a route: what has no place in the lab is refused at once instead of being lost.
    namespace = layout.namespace(NETWORK, "net")
    await _checked("nsenter", f"--net={namespace}", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


async def create_host(
    layout: Layout, trees: Sequence[Hierarchy], host: str, networks: Mapping[str, Path] | None = None
) -> None:
    """Make a host's cgroup and namespaces; its FILES must be in its root. Raises LabError."""
    cgroup = f"{layout.cgroup}/{host}"
    cgroups.create(trees, cgroup)
    for folder in PRIVATE:
        path = Path(f"{layout.root(host)}{folder}")
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    # The cgroup namespace's root is the cgroup that its first process is in.
    script = setup_script(host, layout.root(host), trees, networks or {})
    await _unshare(layout, host, KINDS, ["sh", "-c", script], before=lambda argv: into_cgroup(trees, cgroup, argv))
    # Only now: a v2 cgroup with children that have controllers takes no processes itself.
    cgroups.create(trees, f"{cgroup}/{SYSTEM_SLICE}")


async def _unshare(
    layout: Layout,
    name: str,
    kinds: Sequence[str],
    argv: Sequence[str],
    before: Callable[[Sequence[str]], Sequence[str]] = lambda argv: argv,
) -> None:
    flags = []
    for kind in kinds:
        path = layout.namespace(name, kind)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        flags.append(f"{_FLAGS[kind]}={path}")
    propagation = ["--propagation", "private"] if "mnt" in kinds else []
    await _checked(*before(["unshare", *flags, *propagation, "--", *argv]))


async def _checked(*argv: str) -> None:
    try:
        await run(*argv, check=True)
    except CommandError as exc:
        raise LabError(f"cannot make the lab's hosts: {exc}") from exc


async def hold_namespaces(layout: Layout) -> None:
    """Make the folder that the namespaces are mounted in: a mount of its own, private, as mount namespaces require."""
    layout.namespaces.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not any(mount.target == layout.namespaces for mount in mounts_under(layout.namespaces)):
        await _checked("mount", "--bind", str(layout.namespaces), str(layout.namespaces))
        await _checked("mount", "--make-private", str(layout.namespaces))
    machine = layout.namespace(MACHINE, "net")
    machine.parent.mkdir(exist_ok=True, mode=0o700)
    machine.touch(mode=0o600)
    await _checked("mount", "--bind", "/proc/self/ns/net", str(machine))
