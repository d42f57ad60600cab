"""Volumes of images under a runtime that can't mount them."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from agent.kubelet.container import smallestprogram
from agent.kubelet.container.imagevolumes import layers_of, mounted_by


def test_the_smallest_program_waits(tmp_path: Path) -> None:
    path = tmp_path / "wait"
    smallestprogram.write(path)
    smallestprogram.write(path)  # again: it is there
    process = subprocess.Popen([path])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_it_is_an_elf_file(machine: str) -> None:
    assert smallestprogram.program(machine).startswith(b"\x7fELF\x02\x01\x01")


def test_it_is_not_written_for_every_machine() -> None:
    with pytest.raises(ValueError, match="written for vax, only for x86_64, aarch64"):
        smallestprogram.program("vax")
    assert platform.machine() in ("x86_64", "aarch64")


@pytest.mark.parametrize(
    ("name", "version", "can"),
    [
        ("containerd", "1.6.20~ds1", False),
        ("containerd", "v2.0.4", False),
        ("containerd", "2.1.0", True),
        ("cri-o", "1.30.9", False),
        ("cri-o", "1.33.0", True),
        ("fake", "0.1", True),
    ],
)
def test_runtimes_that_mount_images(name: str, version: str, can: bool) -> None:
    assert mounted_by(name, version) is can


def _root(kind: str, options: str) -> str:
    return f"9 8 0:5 / /proc rw - proc proc rw\n10 9 0:9 / / ro,relatime shared:1 - {kind} {kind} rw,{options}\n"


def test_layers_are_read_off_a_mount_table() -> None:
    assert layers_of(_root("overlay", "lowerdir=/s/2/fs:/s/1/fs,upperdir=/s/3/fs,workdir=/s/3/work")) == [
        "/s/2/fs",
        "/s/1/fs",
    ]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (_root("overlay", "lowerdir=2/fs:1/fs"), "relative paths"),
        (_root("ext4", "discard"), "no overlays but ext4"),
        ("", "without a root"),
    ],
)
def test_a_mount_table_without_layers(table: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        layers_of(table)
