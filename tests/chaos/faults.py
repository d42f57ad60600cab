"""What can go wrong on the hosts of a lab: how it begins, how it ends, and what clients may notice of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from live_lab import LiveLab

_GRACE_SECONDS = 50.0  # --node-monitor-grace-period: so long a node that says nothing counts as ready
_PROXY_SECONDS = 17.0  # HAProxy sees that a server does not answer (two checks of up to 6 s, 2 s apart)
_ETCD_SECONDS = 10.0  # members notice that one is gone and elect another leader
_DISK_MIB = 256  # etcd reserves 64 MiB for its log, and as much for the next one


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, and is put right again."""

    name: str
    begin: Callable[[LiveLab], object]
    end: Callable[[LiveLab], object]
    hold_seconds: float
    write_seconds: float
    """A write through HAProxy is acknowledged after this time at the latest, with retries."""
    service_seconds: float = 2.0
    """A service answers its clients again after this time at the latest."""


def leader(lab: LiveLab, component: str) -> str:
    """The host whose replica of the component leads now."""
    lease = lab.get("lease", component, "-n", "kube-system")
    return str(lease["spec"]["holderIdentity"]).split("_")[0]


def _nothing(_: LiveLab) -> None:
    """What was killed comes back by itself."""


def _kill(host: str, component: str, write_seconds: float, service_seconds: float = 2.0) -> Fault:
    def begin(lab: LiveLab) -> None:
        lab.navarch("kill", host or leader(lab, component), component)

    return Fault(f"kill {component} of {host or 'its leader'}", begin, _nothing, 5, write_seconds, service_seconds)


def _freeze(host: str, component: str, hold_seconds: float, write_seconds: float) -> Fault:
    frozen: list[str] = []

    def begin(lab: LiveLab) -> None:
        frozen.append(host or leader(lab, component))
        lab.navarch("kill", frozen[-1], component, "--signal", "STOP")

    def end(lab: LiveLab) -> None:
        lab.navarch("kill", frozen[-1], component, "--signal", "CONT")

    return Fault(f"freeze {component} of {host or 'its leader'}", begin, end, hold_seconds, write_seconds)


def _power_off(host: str, hold_seconds: float, write_seconds: float, service_seconds: float) -> Fault:
    return Fault(
        f"power off {host}",
        lambda lab: lab.navarch("stop", host),
        lambda lab: lab.navarch("start", host, seconds=300),
        hold_seconds,
        write_seconds,
        service_seconds,
    )


def _stop(hosts: Sequence[str], component: str, hold_seconds: float, write_seconds: float) -> Fault:
    def begin(lab: LiveLab) -> None:
        for host in hosts:
            lab.navarch("stop", host, component)

    def end(lab: LiveLab) -> None:
        for host in hosts:
            lab.navarch("start", host, component)

    return Fault(f"stop {component} of {' and '.join(hosts)}", begin, end, hold_seconds, write_seconds)


_ARRIVING = "add chain inet chaos arriving { type filter hook prerouting priority -400 ; }"
_LEAVING = "add chain inet chaos leaving { type filter hook postrouting priority 400 ; }"


def _network(
    name: str, host: str, rules: Sequence[str], hold_seconds: float, write_seconds: float, service_seconds: float
) -> Fault:
    """Packets of a host's network card meet nftables rules."""
    ruleset = "\n".join(["add table inet chaos", _ARRIVING, _LEAVING, *rules])

    def begin(lab: LiveLab) -> None:
        lab.inside(host, "nft", ruleset)

    def end(lab: LiveLab) -> None:
        lab.inside(host, "nft", "delete table inet chaos")

    return Fault(f"{name} {host}", begin, end, hold_seconds, write_seconds, service_seconds)


_NO_ARRIVAL = 'add rule inet chaos arriving iifname "eth0" drop'
_NO_DEPARTURE = 'add rule inet chaos leaving oifname "eth0" drop'
_LOSSY = (
    'add rule inet chaos arriving iifname "eth0" numgen random mod 100 < 30 drop',
    'add rule inet chaos leaving oifname "eth0" numgen random mod 100 < 30 drop',
)


def _full_disk(host: str) -> Fault:
    """etcd's folder lies on a small disk, and something else fills it; so etcd can't start when it must."""
    folder = "/var/lib/etcd"
    move = (
        f"cp -a {folder} {folder}.before && mount -t tmpfs -o size={_DISK_MIB}m,mode=700 tmpfs {folder}"
        f" && cp -a {folder}.before/. {folder}/"
    )
    back = f"cp -a {folder}/member/. {folder}.after && umount {folder} && rm -rf {folder}/member {folder}.before"
    back += f" && mv {folder}.after {folder}/member"

    def begin(lab: LiveLab) -> None:
        lab.navarch("stop", host, "etcd")
        lab.inside(host, "sh", "-c", move)
        lab.navarch("start", host, "etcd")
        lab.inside(host, "sh", "-c", f"cat /dev/zero > {folder}/filler 2>/dev/null; test -s {folder}/filler")
        lab.navarch("kill", host, "etcd", check=False)  # it may have ended by itself

    def end(lab: LiveLab) -> None:
        lab.inside(host, "rm", "-f", f"{folder}/filler")
        lab.navarch("stop", host, "etcd")
        lab.inside(host, "sh", "-c", f"rm -rf {folder}.after && mkdir -m 700 {folder}.after && {back}")
        lab.navarch("start", host, "etcd")

    return Fault(f"fill etcd's disk of {host}", begin, end, 15, _ETCD_SECONDS)


FAULTS: tuple[Fault, ...] = (
    _kill("cp1", "kube-apiserver", 3),
    _kill("cp2", "etcd", _ETCD_SECONDS),
    _kill("", "kube-controller-manager", 3),
    _kill("", "kube-scheduler", 3),
    _kill("w2", "kubelet", 3),
    _kill("w2", "containerd", 3),
    _kill("w2", "kube-proxy", 3),
    _kill("lb", "haproxy", 5),
    _power_off("cp3", 15, _ETCD_SECONDS, 2),
    _freeze("", "kube-controller-manager", 25, 3),
    _freeze("cp2", "kube-apiserver", 20, _PROXY_SECONDS),
    _network("cut off", "cp1", (_NO_ARRIVAL, _NO_DEPARTURE), 20, _PROXY_SECONDS, 2),
    _network("lose 30 % of the packets of", "cp2", _LOSSY, 20, 20, 2),
    _stop(("cp2", "cp3"), "etcd", 15, 60),
    _power_off("w2", 70, 3, _GRACE_SECONDS + 10),
    _freeze("", "kube-scheduler", 25, 3),
    _freeze("cp1", "etcd", 20, _ETCD_SECONDS),
    _freeze("w2", "kubelet", 20, 3),
    _freeze("w2", "containerd", 20, 3),
    _network("let nothing reach", "cp3", (_NO_ARRIVAL,), 20, _PROXY_SECONDS, 2),
    _network("let nothing leave", "cp2", (_NO_DEPARTURE,), 20, _PROXY_SECONDS, 2),
    _network("cut off", "w2", (_NO_ARRIVAL, _NO_DEPARTURE), 70, 3, _GRACE_SECONDS + 10),
    _network("lose 30 % of the packets of", "w2", _LOSSY, 20, 3, 25),
    _full_disk("cp1"),
)
"""All of them; the first ones are those that a short run is about."""
