"""The guests' kernel: which source, under which name it is kept, what is wrong with a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.vms.box import SOURCES, WITH_KERNEL, packages
from lab.vms.box import digest as box_digest
from lab.vms.box import name as box_name
from lab.vms.debian import configuration
from lab.vms.kernel import CONFIG, EDITS, digest, edit, kept, newest, refused


def test_the_newest_source_that_is_new_enough() -> None:
    names = ["linux-source-6.1", "linux-source-7.3", "linux-source-7.10", "linux-source", "linux-source-7.4-rt"]
    assert newest(names) == "linux-source-7.10"
    with pytest.raises(LabError, match=r"no linux-source of 6\.16 or later"):
        newest(["linux-source-6.1"])


def test_only_what_changes_the_kernel_changes_its_name(tmp_path: Path) -> None:
    text = CONFIG.read_text()
    assert digest(text) == digest("# a comment\n\n" + "\n".join(reversed(text.splitlines())))
    assert digest(text) != digest(text + "CONFIG_BTRFS_FS=y\n")
    assert kept(tmp_path) is None
    built = tmp_path / f"uml-7.3.4-1-{digest(text)}"
    built.touch()
    (tmp_path / "uml-7.3.4-1-0123456789abcdef").touch()
    assert kept(tmp_path) == built


def test_what_the_kernel_does_not_know_is_found() -> None:
    assert refused("# why\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=n\n", "CONFIG_A=y\n# CONFIG_B is not set\n") == [
        "CONFIG_B=y"
    ]


def test_a_box_is_made_anew_when_what_is_in_it_changes() -> None:
    names = packages((SOURCES / "packages.txt").read_text())
    assert {"systemd-sysv", "openssh-server", "containerd", "haproxy"} <= set(names)
    assert all(" " not in name for name in names)
    files = [SOURCES / "packages.txt", SOURCES / "customise"]
    assert box_digest(files, ["aiohttp==1"]) == box_digest(reversed(files), ["aiohttp==1"])
    assert box_digest(files, ["aiohttp==1"]) != box_digest(files, ["aiohttp==2"])
    assert box_digest(files, []) != box_digest(files[:1], [])


def test_a_box_with_a_kernel_is_another_one() -> None:
    assert {"linux-image-cloud-amd64", "initramfs-tools"} <= set(packages((WITH_KERNEL / "packages.txt").read_text()))
    assert box_name().startswith("box-")
    assert box_name(kernel=True).startswith("qemu-")


def test_the_isolated_apt_keeps_to_its_folder(tmp_path: Path) -> None:
    for line in configuration(tmp_path).splitlines():
        assert str(tmp_path) in line or line in ('Dir::Etc::sourceparts "-";', 'APT::Sandbox::User "root";')


def test_the_source_is_changed_only_where_it_says_what_is_expected(tmp_path: Path) -> None:
    for path, old, _ in EDITS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"before\n{old}after\n")
    edit(tmp_path)
    for path, _, new in EDITS:
        assert (tmp_path / path).read_text() == f"before\n{new}after\n"
    with pytest.raises(LabError, match=r"does not say '.*' once: see EDITS in kernel\.py"):
        edit(tmp_path)
    with pytest.raises(LabError, match=r"does not say"):
        edit(tmp_path / "elsewhere")
