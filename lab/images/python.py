"""An image that runs the project's own components: Debian's Python, the locked packages they need, and the project.

    /usr/bin/python3.11, /usr/lib/…                   the interpreter, its library and the shared libraries of all
    /usr/local/lib/python3.11/dist-packages           what the components import
    /opt/navarch                                      the project (PYTHONPATH)

Each is a layer, made once and kept in the virtual environment under a digest of what it was made from.  Compiled files
are marked as never to be compared with their source (PEP 552), because files in images have no time stamps.

Source: Debian Policy, Python (folders); PEP 552; ld.so(8).
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
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from agent.command import CommandError, run
from lab.errors import LabError
from lab.images.layer import LAYER_TYPE, Blob, Entry, Image, Layer, Settings, image, layer
from lab.layout import PROJECT

NAVARCH = "navarch:0.1"
DEPENDENCIES = ("aiohttp", "cryptography", "dnslib", "httptools", "orjson", "prometheus-client", "ryaml", "uvloop")
"""What `agent.dns` and what it builds on in machinery import."""
FOLDERS = ("machinery", "agent")

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARY = Path("/usr/lib") / _VERSION
_PACKAGES = Path(sysconfig.get_path("purelib"))
_HOME = "/opt/navarch"
_UNUSED = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data", "distutils"}
_UNUSED_SUFFIXES = {".pyx", ".pxd", ".pxi", ".c", ".h", ".pyi", ".a"}
_MERGED = ("bin", "sbin", "lib", "lib64")  # of /usr, to which the root's own lead
_KEPT_LAYERS = 12
_CHECKED_BYTES = 16  # a compiled file's header


@dataclass(frozen=True, slots=True)
class _File:
    source: Path
    target: str


async def navarch_image(folder: Path | None = None) -> Image:
    """The image; `folder` is where layers are kept, by default in the virtual environment. Raises LabError."""
    kept = folder or Path(sys.prefix) / "images"
    interpreter = [*_tree(_LIBRARY, str(_LIBRARY)[1:]), _File(_interpreter(), f"usr/bin/{_VERSION}")]
    packages = list(_dependencies(DEPENDENCIES))
    project = [file for name in FOLDERS for file in _tree(PROJECT / name, f"{_HOME}/{name}"[1:])]

    async def system() -> list[Entry]:
        libraries = await _shared_libraries(file.source for file in (*interpreter, *packages))
        return [*_skeleton(), *_contents([*interpreter, *libraries])]

    layers = [
        await _layer(kept, [*interpreter, *packages], system),
        await _layer(kept, packages, lambda: asyncio.to_thread(_contents, packages)),
        await _layer(kept, project, lambda: asyncio.to_thread(_contents, project)),
    ]
    settings = Settings(
        entrypoint=[f"/usr/bin/{_VERSION}", "-P", "-m", "agent.dns"],  # as CoreDNS' image is the server
        environment={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": _HOME,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
        },
    )
    return image([NAVARCH, "navarch:latest"], layers, settings)


# -- which files -----------------------------------------------------------------------------------------------------


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _tree(root: Path, target: str) -> Iterator[_File]:
    """The files below a folder that a component can make use of."""
    if not root.is_dir():
        raise LabError(f"{root}: no such folder")
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if n not in _UNUSED and n != "__pycache__" and not n.startswith("config-"))
        for name in sorted(files):
            source = Path(folder) / name
            if source.suffix not in _UNUSED_SUFFIXES:
                yield _File(source, f"{target}/{source.relative_to(root)}")


def _dependencies(names: Iterable[str]) -> Iterator[_File]:
    """The files of these distributions and of all that they need."""
    for found in _closure(names):
        for path in found.files or ():
            source = Path(str(found.locate_file(path)))
            inside = source.is_relative_to(_PACKAGES) and ".." not in path.parts
            if inside and source.suffix not in {*_UNUSED_SUFFIXES, ".pyc"} and not _UNUSED & set(path.parts):
                yield _File(source, f"usr/local/lib/{_VERSION}/dist-packages/{path}")


def _closure(names: Iterable[str]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    wanted = list(names)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError as exc:
            if name in DEPENDENCIES:
                raise LabError(f"the package {name} is not installed: run `navarch setup`") from exc
            continue  # for another Python or system
        for requirement in found[name].requires or ():
            words, _, condition = requirement.partition(";")
            if "extra" not in condition:
                wanted.append(re.split(r"[\s<>=!~\[(]", words.strip())[0])
    return [found[name] for name in sorted(found)]


async def _shared_libraries(files: Iterable[Path]) -> list[_File]:
    """The libraries that programs and extension modules load, and the loader."""
    programs = sorted(str(f) for f in files if f.suffix == ".so" or ".so." in f.name or f == _interpreter())
    try:
        listed = await run("ldd", *programs, check=True)
    except CommandError as exc:
        raise LabError(f"cannot tell which libraries Python needs: {exc}") from exc
    found = {Path(path) for path in re.findall(r"(?:=> |^\s+)(/[^\s:]+)", listed.text, re.MULTILINE)}
    system = sorted(p for p in found if not p.is_relative_to(_PACKAGES))
    return [_File(p.resolve(), _merged(p)) for p in system]


def _merged(path: Path) -> str:
    """Where a file is with /lib and its like being links into /usr."""
    text = str(path)[1:]
    return f"usr/{text}" if text.split("/")[0] in _MERGED else text


def _skeleton() -> list[Entry]:
    return [
        *(Entry(name, target=f"usr/{name}") for name in _MERGED),
        *(Entry(f"usr/{name}") for name in _MERGED),
        Entry("usr/bin/python3", target=_VERSION),
        Entry(
            "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
        ),
        Entry("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"),
        Entry("root", 0o700),
        Entry("tmp", 0o1777),
        *(Entry(name) for name in ("dev", "proc", "sys", "run", "var")),
    ]


# -- layers ----------------------------------------------------------------------------------------------------------


async def _layer(kept: Path, made_from: Sequence[_File], make: Callable[[], Awaitable[list[Entry]]]) -> Layer:
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


def _identity(file: _File) -> tuple[str, str, int, int]:
    status = file.source.stat()
    return str(file.source), file.target, status.st_size, status.st_mtime_ns


def _contents(files: Iterable[_File]) -> list[Entry]:
    return [entry for file in files for entry in _entries(file)]


def _entries(file: _File) -> Iterator[Entry]:
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
    target = Path(sys.prefix) / "images" / f"compiled.{os.getpid()}"
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        py_compile.compile(str(source), cfile=str(target), doraise=True)
        return target.read_bytes()[_CHECKED_BYTES:]
    except py_compile.PyCompileError:
        return b""
    finally:
        target.unlink(missing_ok=True)
