"""Which of Vagrant's providers this machine can use.

libvirt      hardware virtualisation (KVM), with libvirtd
virtualbox   VirtualBox
uml          user-mode Linux (vagrant/uml): no hardware virtualisation needed, but root and Linux on x86
libvirt-tcg  libvirt without KVM: every instruction is emulated, some ten times slower; only when asked for
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.errors import LabError

_KVM_CREATE_VM, _KVM_GET_API_VERSION = 0xAE01, 0xAE00  # linux/kvm.h
_KVM_API = 12


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
    libvirt: bool
    """libvirtd, and Vagrant's plugin for it."""
    virtualbox: bool
    qemu: bool
    """qemu can emulate this machine's own processor."""
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
                "libvirtd and vagrant-libvirt are not installed": able.libvirt,
                "neither KVM nor qemu is there": able.kvm or able.qemu,
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
    plugins = Path("/usr/share/rubygems-integration/all/specifications")
    return Abilities(
        kvm=_processor_helps() and _kvm_works(),
        libvirt=shutil.which("libvirtd") is not None and any(plugins.glob("vagrant-libvirt-*")),
        virtualbox=shutil.which("VBoxManage") is not None,
        qemu=shutil.which(f"qemu-system-{platform.machine()}") is not None,
        x86=platform.machine() == "x86_64",
        root=os.geteuid() == 0,
        linux=platform.system() == "Linux",
    )


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
