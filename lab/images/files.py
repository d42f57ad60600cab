"""Files of the machine, as entries of an image's layers; and layers kept under a digest of what they were made from.

Programs bring the shared libraries that they load.  Compiled Python files are marked as never to be compared with their
source (PEP 552), because files in images have no time stamps.

Source: PEP 552; ld.so(8), ldd(1).
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import py_compile
import re
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError
from lab.images.layer import LAYER_TYPE, Blob, Entry, Layer, layer

MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders of /usr, to which the root's own lead."""
UNUSED = frozenset(
    {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "distutils"}
)
UNUSED_SUFFIXES = frozenset({".pyx", ".pxd", ".pxi", ".c", ".h", ".pyi", ".a"})

_PACKAGES = Path(sysconfig.get_path("purelib"))
_KEPT_LAYERS = 12
_CHECKED_BYTES = 16  # a compiled file's header


@dataclass(frozen=True, slots=True)
class File:
    """A file of the machine, and where it is to be in an image (without a leading slash)."""

    source: Path
    target: str


def kept_layers() -> Path:
    """Where layers are kept: in the virtual environment."""
    return Path(sys.prefix) / "images"


def tree(root: Path, target: str) -> Iterator[File]:
    """The files below a folder that a component can make use of."""
    if not root.is_dir():
        raise LabError(f"{root}: no such folder")
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in UNUSED and n != "__pycache__" and not n.startswith("config-"))
        for name in sorted(files):
            source = Path(folder) / name
            if source.suffix not in UNUSED_SUFFIXES:
                yield File(source, f"{target}/{source.relative_to(root)}")


async def shared_libraries(programs: Iterable[Path]) -> list[File]:
    """The libraries of the system that programs and libraries load, and the loader. Raises LabError."""
    try:
        listed = await run("ldd", *sorted(map(str, programs)), check=True)
    except CommandError as exc:
        raise LabError(f"cannot tell which libraries programs need: {exc}") from exc
    found = {Path(path) for path in re.findall(r"(?:=> |^\s+)(/[^\s:]+)", listed.text, re.MULTILINE)}
    system = sorted(path for path in found if not path.is_relative_to(_PACKAGES))
    return [File(path.resolve(), merged(path)) for path in system]


def merged(path: Path) -> str:
    """Where a file is with /lib and its like being links into /usr."""
    text = str(path)[1:]
    return f"usr/{text}" if text.split("/")[0] in MERGED else text


def skeleton() -> list[Entry]:
    """The folders and the two files of accounts that every image needs."""
    return [
        *(Entry(name, target=f"usr/{name}") for name in MERGED),
        *(Entry(f"usr/{name}") for name in MERGED),
        Entry(
            "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        ),
        Entry("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"),
        # ipset and iptables look protocols up by their names.
        Entry("etc/protocols", 0o644, b"icmp 1\ntcp 6\nudp 17\nipv6-icmp 58\nsctp 132\n"),
        Entry("root", 0o700),
        Entry("tmp", 0o1777),
        *(Entry(name) for name in ("dev", "proc", "sys", "run", "var")),
    ]


async def kept_layer(kept: Path, made_from: Sequence[File], make: Callable[[], Awaitable[list[Entry]]]) -> Layer:
    """The layer that `make` gives the entries of, or the one that was made of the same files before."""
    name = hashlib.sha256(repr([_identity(file) for file in made_from]).encode()).hexdigest()
    for path in kept.glob(f"{name}-*"):
        os.utime(path)
        return Layer(Blob.of(LAYER_TYPE, path.read_bytes()), f"sha256:{path.name.rpartition('-')[2]}")
    entries = await make()
    made = await asyncio.to_thread(layer, entries, level=1)
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = kept / f"new.{os.getpid()}"
    temporary.write_bytes(made.blob.data)
    temporary.replace(kept / f"{name}-{made.diff_id.rpartition(':')[2]}")
    for old in sorted(kept.glob("*-*"), key=lambda p: p.stat().st_mtime)[:-_KEPT_LAYERS]:
        old.unlink(missing_ok=True)
    return made


def _identity(file: File) -> tuple[str, str, int, int]:
    status = file.source.stat()
    return str(file.source), file.target, status.st_size, status.st_mtime_ns


def contents(files: Iterable[File]) -> list[Entry]:
    """The entries of these files; Python modules are compiled."""
    return [entry for file in files for entry in _entries(file)]


def _entries(file: File) -> Iterator[Entry]:
    content = file.source.read_bytes()
    mode = 0o755 if os.access(file.source, os.X_OK) or file.source.suffix == ".so" else 0o644
    yield Entry(file.target, mode, content)
    if file.source.suffix == ".py":
        folder, _, name = file.target.rpartition("/")
        compiled = _compiled(file.source, content)
        if compiled:
            yield Entry(f"{folder}/__pycache__/{name[:-3]}.{_tag()}.pyc", 0o644, compiled)


@cache
def _tag() -> str:
    return str(sys.implementation.cache_tag)


def _compiled(source: Path, content: bytes) -> bytes:
    """The module compiled, to be used whatever time stamps say; b"" for one that is no Python of this version."""
    there = Path(importlib.util.cache_from_source(str(source)))
    try:
        known = there.read_bytes()
        status = source.stat()
    except OSError:
        known = b""
    fits = known[:8] == importlib.util.MAGIC_NUMBER + bytes(4)
    if fits and known[8:16] == int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little"):
        code = known[_CHECKED_BYTES:]
    else:
        code = _compile(source)
    if not code:
        return b""
    unchecked = (1).to_bytes(4, "little") + importlib.util.source_hash(content)
    return importlib.util.MAGIC_NUMBER + unchecked + code


def _compile(source: Path) -> bytes:
    target = kept_layers() / f"compiled.{os.getpid()}"
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        py_compile.compile(str(source), cfile=str(target), doraise=True)
        return target.read_bytes()[_CHECKED_BYTES:]
    except py_compile.PyCompileError:
        return b""
    finally:
        target.unlink(missing_ok=True)
