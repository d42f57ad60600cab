"""What containerd keeps on disk, filled with a release's images once and given to every host of every lab.

A host's copy shares the files of images with all others (hard links): unpacking takes no time, and programs that run in
many containers are in memory once.  That is safe because containerd never writes into a file that it has put in place,
and overlayfs never into a lower layer; the two databases, which are written in place, are copied.

    /var/cache/navarch/images/KEY.tar          the archive
    /var/cache/navarch/containerd/KEY-…/       containerd's root after the import

Source: containerd, docs/ops.md ("root"), docs/content-flow.md; Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.command import CommandError, run
from lab.conditions import until
from lab.errors import LabError
from lab.images.release import Release, save

CACHE = Path("/var/cache/navarch")
NAMESPACE = "k8s.io"
_SHARED = ("blobs", "snapshots")
"""Folders whose files are never written again once they are there."""
_KEPT = 2
_START_SECONDS = 20.0
_IMPORT_SECONDS = 120.0


def archive(release: Release) -> Path:
    """The release's archive, written if it isn't there yet."""
    path = CACHE / "images" / f"{release.key}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, release.named)
        _forget_old(path.parent)
    os.utime(path)
    return path


async def template(release: Release, snapshotter: str) -> Path:
    """A root of containerd's that has the images; made once for each release. Raises LabError."""
    path = CACHE / "containerd" / f"{release.key}-{snapshotter}"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    with _alone(path.parent / "lock"):
        if not path.exists():
            await _fill(archive(release), path, snapshotter)
            _forget_old(path.parent)
        os.utime(path)
    return path


def furnish(source: Path, root: Path) -> None:
    """Give a host, whose containerd has not run yet, the images: `root` is its /var/lib/containerd."""
    for folder in source.iterdir():
        if (root / folder.name).exists():
            continue
        (root / folder.name).mkdir(mode=0o700)
        for each in folder.iterdir():
            target = root / folder.name / each.name
            _copy(each, target, link=each.name in _SHARED)


def _copy(source: Path, target: Path, *, link: bool) -> None:
    """With `cp`, which is many times faster than Python for thousands of files; copies where it can't link."""
    for how in (["-al"], ["-a"]) if link else (["-a"],):
        if subprocess.run(["cp", *how, str(source), str(target)], capture_output=True, check=False).returncode == 0:
            return
        shutil.rmtree(target, ignore_errors=True)
    raise LabError(f"cannot copy {source} to {target}: is the disk full?")


async def _fill(images: Path, path: Path, snapshotter: str) -> None:
    """Let a containerd of its own import the archive, and keep what that left."""
    with tempfile.TemporaryDirectory(prefix="navarch-containerd-") as scratch:
        making = path.with_name(f"new.{os.getpid()}")
        shutil.rmtree(making, ignore_errors=True)
        socket = Path(scratch) / "containerd.sock"
        configuration = Path(scratch) / "config.toml"
        configuration.write_text(_configuration(making, Path(scratch), socket))
        log = Path(scratch) / "log"
        with log.open("wb") as output:
            argv = ("containerd", "--config", str(configuration))
            process = await asyncio.create_subprocess_exec(*argv, stdout=output, stderr=output)
        try:
            await until(socket.exists, _START_SECONDS)
            ctr = ["ctr", "--address", str(socket), "--namespace", NAMESPACE]
            arguments = ["images", "import", "--snapshotter", snapshotter, str(images)]
            await run(*ctr, *arguments, check=True, timeout_seconds=_IMPORT_SECONDS)
        except (CommandError, TimeoutError) as exc:
            last = log.read_text(errors="replace").splitlines()[-5:]
            raise LabError("\n".join([f"cannot unpack the images: {exc}", *last])) from exc
        finally:
            process.terminate()
            await process.wait()
        for folder in ("io.containerd.content.v1.content/ingest", "tmpmounts"):
            shutil.rmtree(making / folder, ignore_errors=True)
        making.rename(path)


def _configuration(root: Path, state: Path, socket: Path) -> str:
    return f"""\
version = 2
root = "{root}"
state = "{state}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", \
"io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{socket}"
"""


def _forget_old(folder: Path) -> None:
    """Keep the latest; a template that hosts share files with can go, the files live on in theirs."""
    entries = sorted((each for each in folder.iterdir() if each.name != "lock"), key=lambda each: each.stat().st_mtime)
    for old in entries[:-_KEPT]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
