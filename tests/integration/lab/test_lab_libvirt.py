"""Ending the lab's own libvirt: what it started ends with it, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from lab.layout import Layout
from lab.vms import libvirt
from lab.vms.place import Place


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place(Layout(f"test-{os.getpid()}"))
    folder = libvirt.run(place)
    folder.mkdir(parents=True)
    subprocess.run(["ip", "netns", "add", place.namespace], check=True)
    yield place
    subprocess.run(["ip", "netns", "delete", place.namespace], check=False, stderr=subprocess.DEVNULL)
    for file in folder.glob("*"):
        file.unlink()
    folder.rmdir()
    folder.parent.rmdir()


def test_what_runs_in_the_labs_namespace_ends_with_it(place: Place) -> None:
    inside = _waiting("ip", "netns", "exec", place.namespace, "sh", "-c", "echo there; exec cat")
    outside = _waiting("sh", "-c", "echo there; exec cat")
    with inside, outside:
        for process in (inside, outside):
            (libvirt.run(place) / f"{process.pid}.pid").write_text(f"{process.pid}\n")
        (libvirt.run(place) / "stale.pid").write_text("4194303")
        libvirt.stop(place)
        assert not place.namespace_file.exists()
        assert inside.wait(10) == -signal.SIGTERM
        assert outside.poll() is None
        outside.communicate()


def _waiting(*argv: str) -> subprocess.Popen[bytes]:
    """A process that runs until its standard input ends, and has begun."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    return process
