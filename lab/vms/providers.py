"""Which of Vagrant's providers this machine can use.

libvirt      hardware virtualisation (KVM), by a libvirtd of the lab's own; without KVM every instruction is emulated,
             some ten times slower, and only when asked for
virtualbox   VirtualBox
uml          user-mode Linux (vagrant/uml): no hardware virtualisation needed, but root and Linux on x86
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.errors import LabError

_KVM_CREATE_VM, _KVM_GET_API_VERSION = 0xAE01, 0xAE00  # linux/kvm.h
_KVM_API = 12
EMULATED = "qemu"
_LIBVIRT = {
    "vagrant": "usr/bin/vagrant",
    "vagrant-libvirt": "usr/share/rubygems-integration/all/specifications/vagrant-libvirt-*",
    "libvirt-daemon": "usr/sbin/libvirtd",
    "libvirt-daemon-driver-qemu": "usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so",
    "libvirt-clients": "usr/bin/virsh",
    "qemu-system-x86": "usr/bin/qemu-system-x86_64",
    "qemu-utils": "usr/bin/qemu-img",
    "dnsmasq-base": "usr/sbin/dnsmasq",
}
"""Debian's packages, each with a file that is there where it is installed."""


class Provider(StrEnum):
    """Who runs the machines."""

    LIBVIRT = "libvirt"
    VIRTUALBOX = "virtualbox"
    UML = "uml"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a machine has of what providers need."""

    kvm: bool
    """Virtual machines can be made with /dev/kvm."""
    libvirt_lacks: tuple[str, ...]
    """Debian's packages that are missing of what libvirt needs: the same with KVM and without."""
    virtualbox: bool
    x86: bool
    root: bool
    linux: bool


def choose(able: Abilities, wanted: str | None = None) -> Provider:
    """The provider asked for, or the fastest that works. Raises LabError saying what is missing."""
    lacks = {provider: lacking(provider, able) for provider in Provider}
    if wanted is not None:
        if wanted not in list(Provider):
            raise LabError(f"no provider {wanted!r}: choose {', '.join(Provider)}")
        provider = Provider(wanted)
        if lacks[provider]:
            raise LabError(f"provider {provider} can't be used: {'; '.join(lacks[provider])}")
        return provider
    for provider in (Provider.LIBVIRT, Provider.VIRTUALBOX, Provider.UML):
        slow = provider is Provider.LIBVIRT and not able.kvm
        if not lacks[provider] and not slow:
            return provider
    told = "; ".join(f"{provider}: {', '.join(lacks[provider]) or 'no KVM'}" for provider in Provider)
    raise LabError(f"this machine can't run virtual machines ({told})")


def lacking(provider: Provider, able: Abilities) -> list[str]:
    """What is missing for the provider to work at all."""
    match provider:
        case Provider.LIBVIRT:
            needs = {
                "libvirt runs guests on Linux": able.linux,
                "the guests' image is of x86-64": able.x86,
                "must be root": able.root,
                f"Debian packages are not installed: {' '.join(able.libvirt_lacks)}": not able.libvirt_lacks,
            }
        case Provider.VIRTUALBOX:
            needs = {"VBoxManage is not installed": able.virtualbox}
        case Provider.UML:
            needs = {
                "user-mode Linux runs on Linux": able.linux,
                "user-mode Linux runs on x86-64": able.x86,
                "must be root": able.root,
            }
    return [what for what, there in needs.items() if not there]


def abilities() -> Abilities:
    """What this machine has."""
    return Abilities(
        kvm=_processor_helps() and _kvm_works(),
        libvirt_lacks=missing(lambda path: any(Path("/").glob(path))),
        virtualbox=shutil.which("VBoxManage") is not None,
        x86=platform.machine() == "x86_64",
        root=os.geteuid() == 0,
        linux=platform.system() == "Linux",
    )


def missing(there: Callable[[str], bool]) -> tuple[str, ...]:
    """The packages of which `there` says that their file (a pattern below /) is not there."""
    return tuple(package for package, path in _LIBVIRT.items() if not there(path))


def driver(able: Abilities) -> str:
    """libvirt's driver for the guests."""
    return "kvm" if able.kvm else EMULATED


def patience(driver: str) -> float:
    """How many times longer all may take than on real processors."""
    return 8.0 if driver == EMULATED else 1.0


def _processor_helps() -> bool:
    """Whether the processor shows its virtualisation: a nested host's /dev/kvm without it makes guests that hang."""
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    return not {"vmx", "svm"}.isdisjoint(flags.split())


def _kvm_works(device: Path = Path("/dev/kvm")) -> bool:
    """Whether the kernel makes a virtual machine: the device alone may be there without being of use."""
    try:
        with device.open("rb+", buffering=0) as kvm:
            if fcntl.ioctl(kvm, _KVM_GET_API_VERSION) != _KVM_API:
                return False
            os.close(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
    except OSError:
        return False
    return True
