"""The image that every guest starts from: Debian 12 and the Python packages that Navarch needs, as one ext4 file.

Kept as CACHE/box-DIGEST.ext4, where DIGEST is of all that it is made from: vagrant/box and the locked packages.  Guests
of qemu start from one with a kernel in it (vagrant/libvirt/box): qemu-DIGEST.ext4, and beside it .vmlinuz and .initrd.

Source: mmdebstrap(1), mkfs.ext4(8) (-d), initramfs-tools(7).
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError
from lab.images.layer import Layer
from lab.layout import PROJECT
from lab.progress import Steps
from lab.vms import debian
from lab.vms.kernel import CACHE
from lab.vms.payload import dependency_layer, dependency_versions

RELEASE = "bookworm"
SOURCES = PROJECT / "vagrant" / "box"
WITH_KERNEL = PROJECT / "vagrant" / "libvirt" / "box"
SIZE = "8G"  # a sparse file
BOOT = ("vmlinuz", "initrd")
"""What lies beside an image with a kernel: the endings of their names."""

_PROGRAMS = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "systemctl": "systemd"}
_SECONDS = 1800.0
_KEPT = 2


def packages(text: str) -> list[str]:
    """The names in packages.txt."""
    return [line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")]


def digest(files: Iterable[Path], versions: Sequence[str], folder: Path = SOURCES) -> str:
    """What the name of a box says of what is in it."""
    summed = hashlib.sha256("\n".join((RELEASE, SIZE, *versions)).encode())
    for file in sorted(files):
        summed.update(f"{file.relative_to(folder)} {file.stat().st_mode:o}\n".encode() + file.read_bytes())
    return summed.hexdigest()[:16]


def name(*, kernel: bool = False) -> str:
    """What the image of this checkout is called, without its ending."""
    plain = digest(_files(SOURCES), dependency_versions())
    return f"qemu-{digest(_files(WITH_KERNEL), [plain], WITH_KERNEL)}" if kernel else f"box-{plain}"


async def box(steps: Steps, *, kernel: bool = False) -> Path:
    """The image, built if it must be; `kernel`: with one, for qemu. Raises LabError saying what is missing."""
    target = CACHE / f"{name(kernel=kernel)}.ext4"
    if target.exists():
        os.utime(target)
        return target
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        raise LabError(f"building the guests' image needs Debian packages: {' '.join(sorted(missing))}")
    root = CACHE / f"{target.stem}.{os.getpid()}"
    root.mkdir(parents=True)
    try:
        with steps.step("the guests' image built (once; 3 to 5 minutes)"):
            await _build(root, target, [SOURCES, WITH_KERNEL] if kernel else [SOURCES])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    family = f"{target.name.partition('-')[0]}-*.ext4"
    for old in sorted(CACHE.glob(family), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        for each in CACHE.glob(f"{old.stem}.*"):
            each.unlink(missing_ok=True)
    return target


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def _build(root: Path, target: Path, folders: Sequence[Path]) -> None:
    names = ",".join(name for folder in folders for name in packages((folder / "packages.txt").read_text()))
    options = ["--variant=minbase", "--mode=root", '--aptopt=APT::Install-Recommends "false"', f"--include={names}"]
    # What a package reads while it is installed must be there before it.
    options += [f'--setup-hook=cp -R --no-preserve=ownership "{folder}/root/." "$1"/' for folder in folders[1:]]
    await _step("mmdebstrap", *options, RELEASE, str(root), await debian.mirror(RELEASE))
    await _step(str(SOURCES / "customise"), str(root))
    for unit in (unit.name for folder in folders[1:] for unit in folder.glob("root/etc/systemd/system/*")):
        await _step("systemctl", f"--root={root}", "enable", unit)
    await asyncio.to_thread(lambda: _unpack(dependency_layer(), root))
    for kind in BOOT:
        for found in (root / "boot").glob(f"{kind}*"):
            shutil.move(found, target.with_suffix(f".{kind}"))
    temporary = target.with_name(f"{target.name}.new")
    temporary.unlink(missing_ok=True)
    await _step("truncate", "-s", SIZE, str(temporary))
    await _step("mkfs.ext4", "-q", "-F", "-L", "navarch", "-m", "0", "-d", str(root), str(temporary))
    temporary.replace(target)


def _unpack(layer: Layer, root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.blob.data))) as tar:
        tar.extractall(root)


async def _step(*argv: str) -> None:
    try:
        await run(*argv, check=True, timeout_seconds=_SECONDS)
    except CommandError as exc:
        raise LabError(f"building the guests' image: {exc}") from exc
