"""The kernel of the guests of vagrant/uml, built from Debian's linux-source.

Kept as CACHE/uml-VERSION-DIGEST, where DIGEST is of vagrant/uml/kernel.config and of EDITS: with the same nothing is
fetched or built again.

Source: Documentation/virt/uml/user_mode_linux_howto_v2; the seccomp mode that it is run with came with Linux 6.16.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError
from lab.layout import PROJECT
from lab.progress import Steps
from lab.vms.debian import Archive

CACHE = Path("/var/cache/navarch")
CONFIG = PROJECT / "vagrant" / "uml" / "kernel.config"
SUITE = "trixie-backports"
LEAST = (6, 16)

# What is changed in the kernel's source: file, text, new text.
#
# Interrupts come from one edge-triggered epoll, whose events are read into one array. The handler of one event may be
# interrupted by that of the next signal, which reads its events into the same array: what the outer one had not yet
# come to is lost. When that is the disk's, and all the 64 requests that may be under way are done, nobody ever asks
# again, and all that reads or writes a file hangs. With one event at a time there is nothing to overwrite.
EDITS = (("arch/um/os-Linux/irq.c", "#define MAX_EPOLL_EVENTS 64\n", "#define MAX_EPOLL_EVENTS 1\n"),)

_TOOLS = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils"}
_BUILD_SECONDS = 5400.0
_SHOWN_CHARS = 1500


def digest(config: str) -> str:
    """What the name of a kernel says of its configuration and of EDITS: comments and order don't matter."""
    lines = sorted({line.strip() for line in config.splitlines() if line.strip() and not line.startswith("#")})
    return hashlib.sha256("\n".join((*lines, repr(EDITS))).encode()).hexdigest()[:16]


def edit(tree: Path) -> None:
    """Makes EDITS in the kernel's source below `tree`. Raises LabError when the source is not as they expect it."""
    for name, old, new in EDITS:
        file = tree / name
        source = file.read_text() if file.exists() else ""
        if source.count(old) != 1:
            raise LabError(f"{file} does not say {old.strip()!r} once: see EDITS in {Path(__file__).name}")
        file.write_text(source.replace(old, new))


def newest(packages: Iterable[str]) -> str:
    """The newest of linux-source-X.Y that is new enough. Raises LabError."""
    found = [(int(m[1]), int(m[2])) for name in packages if (m := re.fullmatch(r"linux-source-(\d+)\.(\d+)", name))]
    best = max(found, default=(0, 0))
    if best < LEAST:
        least = ".".join(map(str, LEAST))
        raise LabError(f"Debian's {SUITE} has no linux-source of {least} or later; guests of user-mode Linux need one")
    return f"linux-source-{best[0]}.{best[1]}"


def refused(config: str, result: str) -> list[str]:
    """The lines of `config` that the kernel's own configuration, `result`, does not have."""
    have = set(result.splitlines())
    return [line for line in config.splitlines() if line.endswith("=y") and line not in have]


def kept(folder: Path = CACHE) -> Path | None:
    """The kernel of this configuration, if it was built before."""
    found = sorted(folder.glob(f"uml-*-{digest(CONFIG.read_text())}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


async def kernel(steps: Steps) -> Path:
    """The kernel, built if it must be. Raises LabError saying what is missing."""
    present = kept()
    if present is not None:
        return present
    missing = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if missing:
        raise LabError(f"building the guests' kernel needs Debian packages: {' '.join(sorted(missing))}")
    folder = CACHE / f"building.{os.getpid()}"
    try:
        with steps.step("the kernel's source"):
            tree, version = await _source(folder)
        with steps.step(f"the guests' kernel {version} built (once; 10 to 15 minutes)"):
            return await _build(tree, version)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _source(folder: Path) -> tuple[Path, str]:
    archive = Archive(SUITE, folder / "apt")
    await archive.update()
    package = newest(await archive.packages("linux-source-"))
    version = await archive.version(package)
    file = await archive.download(package, folder)
    await _step("dpkg-deb", "-x", str(file), str(folder / "package"))
    await _step("tar", "-C", str(folder), "-xf", str(folder / "package" / "usr" / "src" / f"{package}.tar.xz"))
    return folder / package, version


async def _build(tree: Path, version: str) -> Path:
    make, config = ("make", "-s", "-C", str(tree), "ARCH=um"), CONFIG.read_text()
    edit(tree)
    await _step(*make, "defconfig")
    with (tree / ".config").open("a") as file:
        file.write("\n" + config)
    await _step(*make, "olddefconfig")
    without = refused(config, (tree / ".config").read_text())
    if without:
        raise LabError(f"linux-source {version} knows no {', '.join(without)}: adapt {CONFIG}")
    await _step("nice", *make, f"-j{os.cpu_count()}", seconds=_BUILD_SECONDS)
    target = CACHE / f"uml-{version.replace('/', '_')}-{digest(config)}"
    temporary = target.with_name(f"{target.name}.new")
    shutil.copyfile(tree / "linux", temporary)
    await _step("strip", str(temporary))
    temporary.chmod(0o755)
    return temporary.replace(target)


async def _step(*argv: str, seconds: float = 300) -> None:
    try:
        await run(*argv, check=True, timeout_seconds=seconds)
    except CommandError as exc:
        raise LabError(f"building the guests' kernel: {str(exc)[-_SHOWN_CHARS:]}") from exc
