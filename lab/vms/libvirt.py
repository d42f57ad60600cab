"""A libvirt of the lab's own: libvirtd with the lab's files, in the network namespace that its guests share.

Whether the machine runs a libvirtd too does not matter: this one sees the lab's folders where libvirt's own would be,
changes no firewall and no route but the namespace's, and answers only at a socket in a folder of root's.

Source: libvirtd(8), /etc/libvirt/qemu.conf, https://libvirt.org/formatnetwork.html, ip-netns(8).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError
from lab.vms import programs
from lab.vms.machines import MAX_COUNT, Machines
from lab.vms.place import Place

NETWORK, POOL = "navarch", "default"

_SECONDS = 30.0
_EVERY_SECONDS = 0.1
_DAEMON = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
"""
# As root, without what needs systemd, cgroups or a mount namespace for each guest.
_QEMU = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
"""
# $1: the lab's folder, $2: its runtime folder.
_START = """\
for folder in etc var/lib var/cache var/log; do
    mkdir -p "$1/$folder" "/$folder/libvirt"
    mount --bind "$1/$folder" "/$folder/libvirt"
done
mkdir -p /run/libvirt
mount --bind "$2" /run/libvirt
# Users that the package libvirt-daemon-system makes are looked up before it is read that others are wanted.
{ cat /etc/passwd; echo libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin; } >"$1/passwd"
{ cat /etc/group; echo libvirt-qemu:x:64055:; echo kvm:x:64056:; } >"$1/group"
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mkdir -p /var/log/libvirt/qemu
exec libvirtd --pid-file /run/libvirt/libvirtd.pid
"""


def network(machines: Machines) -> str:
    """The guests' network, in libvirt's words: no way out, and for each machine there may be its address."""
    net = ipaddress.IPv4Network(machines.network)
    firsts = [ipaddress.IPv4Address(group.first_address) for group in machines.groups]
    may_be = {first + i for first in firsts for i in range(MAX_COUNT)} - {ipaddress.IPv4Address(machines.gateway)}
    hosts = "\n".join(f"      <host mac='{mac(each)}' ip='{each}'/>" for each in sorted(may_be) if each in net)
    return f"""\
<network>
  <name>{NETWORK}</name>
  <bridge name='br0' stp='off' delay='0'/>
  <dns enable='no'/>
  <ip address='{machines.gateway}' netmask='{net.netmask}'>
    <dhcp>
{hosts}
    </dhcp>
  </ip>
</network>
"""


def mac(address: ipaddress.IPv4Address) -> str:
    """The hardware address of the machine that has this address; vagrant/boot.rb has the same."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x4E, *address.packed))


def start(place: Place) -> None:
    """Let libvirtd run with the lab's network and a pool for disks. Raises LabError with the end of its log."""
    files = _files(place)
    run(place).mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in ("etc", "images"):
        (files / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    (files / "etc" / "libvirtd.conf").write_text(_DAEMON)
    (files / "etc" / "qemu.conf").write_text(_QEMU)
    if not place.namespace_file.exists():
        _do("ip", "netns", "add", place.namespace)
        inside = ("ip", "netns", "exec", place.namespace)
        _do(*inside, "sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv4.ip_forward=1")
        _do(*inside, "ip", "link", "set", "lo", "up")
    if not any(name == "libvirtd" for _, name in _processes(place)):
        _spawn(place)
    (files / "network.xml").write_text(network(place.machines()))
    if NETWORK not in _virsh(place, "net-list", "--all", "--name").split():
        _virsh(place, "net-define", str(files / "network.xml"))
    if NETWORK not in _virsh(place, "net-list", "--name").split():
        _virsh(place, "net-start", NETWORK)
    if POOL not in _virsh(place, "pool-list", "--all", "--name").split():
        _virsh(place, "pool-define-as", POOL, "dir", "--target", str(files / "images"))
    if POOL not in _virsh(place, "pool-list", "--name").split():
        _virsh(place, "pool-start", POOL)


def stop(place: Place) -> None:
    """End libvirtd and all that it started: guests, and the network's DHCP server. Raises LabError for what resists."""
    deadline = time.monotonic() + _SECONDS
    sent = signal.SIGTERM
    while left := list(_processes(place)):
        for pid, _ in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        if time.monotonic() > deadline:
            raise LabError(f"still running: {', '.join(f'{name} ({pid})' for pid, name in left)}")
        time.sleep(_EVERY_SECONDS)
        sent = signal.SIGTERM if time.monotonic() < deadline - _SECONDS / 2 else signal.SIGKILL
    if place.namespace_file.exists():
        _do("ip", "netns", "delete", place.namespace)


def run(place: Place) -> Path:
    """libvirt's runtime folder, with its socket."""
    return place.layout.runtime / "libvirt"


def _files(place: Place) -> Path:
    return place.folder / "libvirt"


def _spawn(place: Place) -> None:
    log = _files(place) / "libvirtd.log"
    with log.open("ab") as file:
        inside = ["ip", "netns", "exec", place.namespace]
        argv = [*inside, "sh", "-eu", "-c", _START, "sh", str(_files(place)), str(run(place))]
        started = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            _virsh(place, "uri")
        except LabError as exc:
            if started.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"libvirtd does not start ({exc}): see {log}") from exc
            time.sleep(_EVERY_SECONDS)
        else:
            return


def _processes(place: Place) -> Iterator[tuple[int, str]]:
    """What runs of libvirt's: by its files of process ids, as far as it is in the lab's namespace."""
    for file in run(place).rglob("*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(file.read_text())
            if Path(f"/proc/{pid}/ns/net").stat().st_ino == place.namespace_file.stat().st_ino:
                yield pid, Path(f"/proc/{pid}/comm").read_text().strip()


def _virsh(place: Place, *argv: str) -> str:
    return _do("virsh", "-q", "-c", f"qemu:///system?socket={run(place)}/libvirt-sock", *argv)


def _do(*argv: str) -> str:
    return programs.output(argv, _SECONDS, " ".join(argv))
