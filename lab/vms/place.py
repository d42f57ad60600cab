"""Where the lab on virtual machines keeps things, below the lab's own state (lab/layout.py).

/var/lib/navarch/LAB/vms/
    machines.yaml       which machines there are; written first, so that `down` knows them
    provider            who runs them
    driver              of libvirt: kvm, or qemu where processors are emulated
    key, key.pub        the administrator's SSH key; known_hosts
    linux, box.ext4     links to the kernel and image in /var/cache/navarch; with libvirt box.ext4, vmlinuz, initrd
    libvirt/            libvirt's own files: etc, var, images with the guests' disks, NAME.log of their consoles
    cluster.yaml        what `navarch init` and `join` read on every machine
    navarch-*.tar.gz    the release
    vagrant/, home/     Vagrant's own; vagrant/machines/NAME/uml/ has a guest's disk, console.log and process id
    forward.cfg, forward.pid    the way from the machine's loopback to the cluster
    vagrant.log, ansible.log
/run/netns/navarch-vms-LAB      the network of the guests (not virtualbox)
/run/navarch/LAB/libvirt/       libvirtd's socket and process ids
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.errors import NotRunning
from lab.layout import Layout
from lab.vms import providers
from lab.vms.machines import Machines, read_machines
from lab.vms.providers import Provider


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one lab on virtual machines."""

    layout: Layout

    @property
    def folder(self) -> Path:
        """All of it."""
        return self.layout.state / "vms"

    @property
    def machines_file(self) -> Path:
        """Which machines there are."""
        return self.folder / "machines.yaml"

    @property
    def cluster_file(self) -> Path:
        """kubeadm's configuration, complete."""
        return self.folder / "cluster.yaml"

    @property
    def key(self) -> Path:
        """The administrator's SSH key."""
        return self.folder / "key"

    @property
    def namespace(self) -> str:
        """The guests' network namespace, by its name below /run/netns."""
        return f"navarch-vms-{self.layout.name}"

    @property
    def namespace_file(self) -> Path:
        """The guests' network namespace."""
        return Path("/run/netns") / self.namespace

    def exists(self) -> bool:
        """Whether there is anything of such a lab."""
        return self.folder.exists()

    def machines(self) -> Machines:
        """The machines of the lab. Raises NotRunning."""
        if not self.machines_file.exists():
            raise NotRunning("there is no lab on virtual machines: run `navarch up --vms`")
        return read_machines(self.machines_file)

    def provider(self) -> Provider:
        """Who runs them. Raises NotRunning."""
        try:
            return Provider((self.folder / "provider").read_text().strip())
        except OSError as exc:
            raise NotRunning("there is no lab on virtual machines: run `navarch up --vms`") from exc

    @property
    def driver_file(self) -> Path:
        """Which of libvirt's drivers runs the guests."""
        return self.folder / "driver"

    def patience(self) -> float:
        """How many times longer all may take than on real processors."""
        return providers.patience(self.driver_file.read_text().strip()) if self.driver_file.exists() else 1.0

    def proxy_command(self) -> str:
        """How ssh reaches a guest; "" where the guests' network is the machine's own."""
        if self.provider() is Provider.VIRTUALBOX:
            return ""
        return f"nsenter --net={self.namespace_file} busybox nc %h %p"
