"""The image that every guest starts from: Debian 12 and the Python packages that Navarch needs, as one ext4 file.

Kept as CACHE/box-DIGEST.ext4, where DIGEST is of all that it is made from: vagrant/box and the locked packages.

Source: mmdebstrap(1), mkfs.ext4(8) (-d).
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
SIZE = "8G"  # a sparse file

_PROGRAMS = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "systemctl": "systemd"}
_SECONDS = 1800.0
_KEPT = 2


def packages(text: str) -> list[str]:
    """The names in packages.txt."""
    return [line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")]


def digest(files: Iterable[Path], versions: Sequence[str]) -> str:
    """What the name of a box says of what is in it."""
    summed = hashlib.sha256("\n".join((RELEASE, SIZE, *versions)).encode())
    for file in sorted(files):
        summed.update(f"{file.relative_to(SOURCES)} {file.stat().st_mode:o}\n".encode() + file.read_bytes())
    return summed.hexdigest()[:16]


async def box(steps: Steps) -> Path:
    """The image, built if it must be. Raises LabError saying what is missing."""
    name = digest((path for path in SOURCES.rglob("*") if path.is_file()), dependency_versions())
    target = CACHE / f"box-{name}.ext4"
    if target.exists():
        os.utime(target)
        return target
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        raise LabError(f"building the guests' image needs Debian packages: {' '.join(sorted(missing))}")
    root = CACHE / f"box.{os.getpid()}"
    root.mkdir(parents=True)
    try:
        with steps.step("the guests' image built (once; 3 to 5 minutes)"):
            await _build(root, target)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    for old in sorted(CACHE.glob("box-*.ext4"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return target


async def _build(root: Path, target: Path) -> None:
    names = ",".join(packages((SOURCES / "packages.txt").read_text()))
    options = ["--variant=minbase", "--mode=root", '--aptopt=APT::Install-Recommends "false"', f"--include={names}"]
    await _step("mmdebstrap", *options, RELEASE, str(root), await debian.mirror(RELEASE))
    await _step(str(SOURCES / "customise"), str(root))
    await asyncio.to_thread(lambda: _unpack(dependency_layer(), root))
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
