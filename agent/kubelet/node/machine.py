"""What the machine is: processors, memory, disk, kernel, addresses. Read from /proc, /sys and /etc.

Source: cadvisor's machine info as the kubelet uses it; proc(5); os-release(5).
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from machinery.errors import SettingsError

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that don't change while the kubelet runs."""

    cpus: int
    memory_bytes: int
    swap_bytes: int
    hugepages: dict[str, int]  # bytes by size: 2Mi
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel_version: str
    os_image: str
    architecture: str
    max_pids: int


def read_machine() -> Machine:
    """Look at this machine."""
    memory = meminfo()
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_bytes=memory.get("MemTotal", 0),
        swap_bytes=memory.get("SwapTotal", 0),
        hugepages=_hugepages(),
        machine_id=_text("/etc/machine-id"),
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or _text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        kernel_version=platform.release(),
        os_image=_os_image(),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        max_pids=_number("/proc/sys/kernel/pid_max", 32768),
    )


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if fields:
            found[name] = int(fields[0]) * (1024 if fields[-1] == "kB" else 1)
    return found


def _hugepages() -> dict[str, int]:
    found = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir("/sys/kernel/mm/hugepages"):
            size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
            name = f"{size >> 30}Gi" if size >= 1 << 30 else f"{size >> 20}Mi" if size >= 1 << 20 else f"{size >> 10}Ki"
            found[name] = size * _number(f"{entry.path}/nr_hugepages", 0)
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: str, default: int) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else default


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Unknown")
    except OSError:
        return "Unknown"


def disk(path: str) -> os.statvfs_result:
    """Sizes of the filesystem that holds a path. Raises OSError."""
    return os.statvfs(path)


def default_address(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The node's addresses: those wanted, or the one that packets to elsewhere leave from. Raises SettingsError."""
    for text in wanted:
        _check_address(text)
    concrete = tuple(text for text in wanted if text not in ("0.0.0.0", "::"))
    if concrete:
        return concrete
    family = socket.AF_INET6 if "::" in wanted else socket.AF_INET
    with IPRoute() as routes:
        for route in routes.get_default_routes(family=family):
            index, source = route.get_attr("RTA_OIF"), route.get_attr("RTA_PREFSRC")
            if source:
                return (source,)
            for address in routes.get_addr(index=index, family=family, scope=0):
                return (address.get_attr("IFA_ADDRESS"),)
    raise SettingsError("--node-ip: this host has no default route, so the node's address must be given")


def _check_address(text: str) -> None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, text)
            return
    raise SettingsError(f"--node-ip: {text!r} is not an IP address")
