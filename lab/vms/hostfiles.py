"""What a machine has in /etc beside what `navarch init` and `join` write: each part by the name of its Ansible role.

The texts of containerd, HAProxy and the registry are those of the one-machine lab.

Source: crio.conf(5), systemd.unit(5), systemd.service(5), sysctl.d(5), modules-load.d(5), keepalived.conf(5); kubeadm,
10-kubeadm.conf.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.bootstrap import images
from lab.bootstrap.configuration import IMAGE_REPOSITORY, ClusterConfiguration
from lab.bootstrap.rooted import inside, write_changed
from lab.daemons import containerd, haproxy, registry
from lab.errors import LabError
from lab.topology import REGISTRY_NAME, REGISTRY_PORT, Host, Role
from lab.vms.machines import Machine, Machines

HOME = "/opt/navarch"
PARTS = ("base", "registry", "containerd", "crio", "kubelet", "loadbalancer")
HAPROXY = "/etc/haproxy/haproxy.cfg"
REGISTRY = "/etc/docker/registry/config.yml"

_PROGRAM = f"""\
#!/bin/sh
# `navarch` of the release that is in use.
exec env PYTHONPATH={HOME}/current PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -P -m lab "$@"
"""
_MODULES = ("br_netfilter", "overlay", "ip_vs", "ip_vs_rr", "nf_conntrack", "vxlan")
_SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.ipv4.vs.conntrack": 1,
    "vm.overcommit_memory": 1,  # as the kubelet wants it
    "fs.inotify.max_user_instances": 8192,
}
# Unpacking images must not keep etcd, beside it on few processors, from its heartbeats.
_WEIGHT = "[Service]\nCPUWeight=20\n"
_KUBELET = f"""\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
Wants=network.target
After=network.target containerd.service crio.service
StartLimitIntervalSec=0

[Service]
Environment=PYTHONPATH={HOME}/current PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=/usr/bin/python3 -P -m agent.kubelet --config=/var/lib/kubelet/config.yaml \
--kubeconfig=/etc/kubernetes/kubelet.conf $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Own:
    """This machine among the others, and what only it can tell."""

    machine: Machine
    able: containerd.Abilities
    card: str
    """The interface that has its address."""
    pause: str
    """The sandbox's image."""
    modules: bool
    """Its kernel loads modules, and so has not all of them at once."""


def own(machines: Machines, config: ClusterConfiguration, name: str) -> Own:
    """What this machine is. Raises LabError when it is not among the machines."""
    machine = machines.named(name)
    listed = subprocess.run(["ip", "-j", "-4", "address"], check=True, capture_output=True)
    cards = {a["local"]: link["ifname"] for link in json.loads(listed.stdout) for a in link.get("addr_info", ())}
    if machine.address not in cards:
        raise LabError(f"{name} has no interface with its address {machine.address}")
    able = containerd.abilities(Path("/var/lib/containerd"))
    return Own(machine, able, cards[machine.address], images.pause(config), Path("/proc/modules").exists())


def files(part: str, machines: Machines, own: Own) -> dict[str, str]:
    """The texts of a part by their absolute paths. Raises LabError for an unknown part."""
    match part:
        case "base":
            modules = {"/etc/modules-load.d/kubernetes.conf": "".join(f"{name}\n" for name in _MODULES)}
            return {
                **(modules if own.modules else {}),
                "/etc/hosts": _hosts(machines),
                "/etc/sysctl.d/99-kubernetes.conf": "".join(f"{name} = {value}\n" for name, value in _SYSCTLS.items()),
                "/usr/local/bin/navarch": _PROGRAM,
            }
        case "containerd":
            return {
                containerd.CONFIG: containerd.configuration(own.pause, own.able),
                containerd.HOSTS: containerd.registry_hosts(machines.registry.address, REGISTRY_PORT),
            }
        case "registry":
            if own.machine != machines.registry:
                return {}
            return {REGISTRY: registry.configuration(own.machine.address, REGISTRY_PORT) + "\n"}
        case "crio":
            return {
                "/etc/crio/crio.conf.d/50-navarch.conf": _crio(own),
                "/etc/containers/registries.conf": _mirrors(machines),
            }
        case "kubelet":
            return {
                "/etc/systemd/system/kubelet.service": _KUBELET,
                "/etc/systemd/system/containerd.service.d/50-weight.conf": _WEIGHT,
            }
        case "loadbalancer":
            return _balancer(machines, own)
    raise LabError(f"no part {part!r}: choose {', '.join(PARTS)}")


def write(texts: dict[str, str], root: Path) -> list[str]:
    """Write what differs from what is there; returns the paths that were written."""
    modes = {path: 0o755 if text.startswith("#!") else 0o644 for path, text in texts.items()}
    return [path for path, text in texts.items() if write_changed(inside(root, path), text, mode=modes[path])]


def _hosts(machines: Machines) -> str:
    names = [f"{machine.address} {machine.name}" for machine in machines.all]
    lines = ["127.0.0.1 localhost", "::1 localhost", *names, f"{machines.registry.address} {REGISTRY_NAME}"]
    return "\n".join(lines) + "\n"


def _crio(own: Own) -> str:
    return f"""\
[crio.image]
pause_image = "{own.pause}"

[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"

[crio.network]
network_dir = "/etc/cni/net.d/"
plugin_dirs = ["{containerd.CNI_PROGRAMS}"]
"""


def _mirrors(machines: Machines) -> str:
    """CRI-O's way to what containerd's `certs.d/_default` says: every image is looked for in the lab's registry.

    Source: containers-registries.conf(5).
    """
    known = ("docker.io", "registry.k8s.io", IMAGE_REPOSITORY)
    here = f"{machines.registry.address}:{REGISTRY_PORT}"
    lines = ['unqualified-search-registries = ["docker.io"]']
    for name in known:
        lines += ["", "[[registry]]", f'prefix = "{name}"', f'location = "{here}"', "insecure = true"]
    return "\n".join(lines) + "\n"


def _balancer(machines: Machines, own: Own) -> dict[str, str]:
    balancers = machines.of(Role.LOAD_BALANCER)
    planes = [Host(plane.name, plane.role, plane.address) for plane in machines.of(Role.CONTROL_PLANE)]
    found = {HAPROXY: haproxy.configuration([f":{haproxy.BACKEND_PORT}"], planes)}
    if len(balancers) > 1:
        found["/etc/keepalived/keepalived.conf"] = _keepalived(machines, own, balancers)
    return found


def _keepalived(machines: Machines, own: Own, balancers: Sequence[Machine]) -> str:
    """Who has the virtual address: the first balancer whose HAProxy runs."""
    machine = own.machine
    rank = balancers.index(machine)
    peers = "\n".join(f"        {other.address}" for other in balancers if other != machine)
    length = machines.network.rpartition("/")[2]
    return f"""\
vrrp_script haproxy {{
    script "/usr/bin/pgrep -x haproxy"
    interval 1
    fall 2
    rise 2
}}

vrrp_instance kubernetes {{
    state BACKUP
    interface {own.card}
    virtual_router_id 51
    priority {150 - rank}
    advert_int 1
    unicast_src_ip {machine.address}
    unicast_peer {{
{peers}
    }}
    virtual_ipaddress {{
        {machines.virtual_address}/{length}
    }}
    track_script {{
        haproxy
    }}
}}
"""
