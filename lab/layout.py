"""Where a lab keeps things on the machine.

    /var/lib/navarch/mount-points         folders made on the machine for all labs to mount on
    /var/lib/navarch/LAB/                 state; gone after `down`
        topology.json, kubeconfig, tokens.csv
        hosts/HOST/root/…                 what the host sees as its own /etc/kubernetes, /var/lib/etcd, …
        hosts/HOST/log/COMPONENT.log      what its daemons write
    /run/navarch/LAB/                     runtime
        ns/HOST/{net,mnt,uts,cgroup}      the host's namespaces, kept alive by being mounted here
        supervisor.sock, pids/HOST/COMPONENT.pid
    /sys/fs/cgroup/*/navarch/LAB/HOST     the host's root of the cgroup trees

`LAB` is `lab`, or what NAVARCH_LAB says: several labs can stand beside each other.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout: what the components' PYTHONPATH is."""

NETWORK = "navarch-net"
"""The namespace that holds the bridge, beside those of the hosts."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one lab."""

    name: str = "lab"

    def __post_init__(self) -> None:
        """Check the name, which becomes part of paths."""
        if not _NAME.fullmatch(self.name):
            raise LabError(f"NAVARCH_LAB={self.name!r}: a lab's name is up to 32 lower-case letters, digits and dashes")

    @classmethod
    def from_environment(cls) -> Layout:
        """The lab that NAVARCH_LAB names."""
        return cls(os.environ.get("NAVARCH_LAB") or "lab")

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path("/var/lib/navarch") / self.name

    @property
    def runtime(self) -> Path:
        """The runtime folder."""
        return Path("/run/navarch") / self.name

    @property
    def cgroup(self) -> str:
        """The lab's cgroup, relative to the root of each hierarchy."""
        return f"navarch/{self.name}"

    @property
    def topology_file(self) -> Path:
        """Which hosts there are; written first, so that `down` knows them."""
        return self.state / "topology.json"

    @property
    def mount_points_file(self) -> Path:
        """Folders made on the machine for the hosts of all labs to mount on; the last lab's `down` removes them."""
        return self.state.parent / "mount-points"

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig that reaches the cluster through the machine's loopback."""
        return self.state / "kubeconfig"

    @property
    def token_file(self) -> Path:
        """The administrator's bearer token, for tools that take no client certificate."""
        return self.state / "token"

    @property
    def socket(self) -> Path:
        """Where the supervisor listens."""
        return self.runtime / "supervisor.sock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself writes."""
        return self.state / "supervisor.log"

    @property
    def namespaces(self) -> Path:
        """The folder of all hosts' namespaces."""
        return self.runtime / "ns"

    def namespace(self, host: str, kind: str) -> Path:
        """A namespace of a host; `kind` is net, mnt, uts or cgroup."""
        return self.namespaces / host / kind

    def root(self, host: str) -> Path:
        """The host's private files, by the absolute paths at which it sees them."""
        return self.state / "hosts" / host / "root"

    def logs(self, host: str) -> Path:
        """The folder of the logs of the host's daemons."""
        return self.state / "hosts" / host / "log"

    def log(self, host: str, component: str) -> Path:
        """The log of one daemon."""
        return self.logs(host) / f"{component}.log"

    def pid_file(self, host: str, component: str) -> Path:
        """Where the process id of a running daemon stands."""
        return self.runtime / "pids" / host / f"{component}.pid"
