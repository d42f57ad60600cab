"""What the kernel is asked for: mounts read, cgroup trees found, the script that makes a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.hosts import cgroups
from lab.hosts.cgroups import Hierarchy
from lab.hosts.mounts import parse_mountinfo
from lab.hosts.namespaces import entry, setup_script
from lab.layout import Layout

HYBRID = """\
26 23 0:24 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
29 26 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
30 26 0:28 / /sys/fs/cgroup/systemd rw shared:9 master:1 - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
31 26 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 26 0:30 / /mnt/elsewhere rw - cgroup2 cgroup2 rw
33 26 0:31 / /mnt/a\\040b rw - ext4 /dev/sda rw
"""
UNIFIED = "26 23 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"


def test_mounts_are_read_with_spaces_in_their_names() -> None:
    assert parse_mountinfo(HYBRID)[-1].target == Path("/mnt/a b")
    assert parse_mountinfo("rubbish\n") == []


def test_trees_of_a_hybrid_machine() -> None:
    assert cgroups.hierarchies(parse_mountinfo(HYBRID)) == (
        Hierarchy(Path("/sys/fs/cgroup/cpu,cpuacct"), 1, "cpu,cpuacct"),
        Hierarchy(Path("/sys/fs/cgroup/systemd"), 1, "name=systemd"),
        Hierarchy(Path("/sys/fs/cgroup/unified"), 2, ""),
    )


def test_the_one_tree_of_a_modern_machine() -> None:
    assert cgroups.hierarchies(parse_mountinfo(UNIFIED)) == (Hierarchy(Path("/sys/fs/cgroup"), 2, ""),)


def test_a_machine_without_cgroups_is_told_so() -> None:
    with pytest.raises(LabError, match="no cgroup file system is mounted"):
        cgroups.hierarchies([])


def test_the_script_covers_run_before_anything_of_the_host_is_put_there() -> None:
    trees = cgroups.hierarchies(parse_mountinfo(HYBRID))
    lines = setup_script("w1", Path("/state/w1"), trees, {"machine": Path("/run/ns/machine")}).splitlines()
    assert lines[0] == "set -eu"
    moved = next(i for i, line in enumerate(lines) if "--move" in line)
    machine = next(i for i, line in enumerate(lines) if "netns/machine" in line)
    assert machine < moved  # its file lies in the machine's /run
    assert "mount --bind /state/w1/etc/kubernetes /etc/kubernetes" in lines
    assert lines.index("umount -R -l /sys") < lines.index("mount -t sysfs sysfs /sys")
    assert "mkdir -p /sys/fs/cgroup/systemd; mount -t cgroup -o name=systemd cgroup /sys/fs/cgroup/systemd" in lines


def test_the_script_of_a_modern_machine_mounts_one_tree_and_no_folder_for_trees() -> None:
    script = setup_script("w1", Path("/s"), cgroups.hierarchies(parse_mountinfo(UNIFIED)), {})
    assert "mkdir -p /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup" in script
    assert "tmpfs /sys/fs/cgroup" not in script


def test_a_command_enters_the_cgroups_before_the_namespaces() -> None:
    trees = cgroups.hierarchies(parse_mountinfo(UNIFIED))
    argv = entry(Layout("x"), trees, "w1", "system.slice", ["id", "-u"])
    assert argv[5:8] == ["/sys/fs/cgroup/navarch/x/w1/system.slice/cgroup.procs", "--", "nsenter"]
    assert argv[-3:] == ["--", "id", "-u"]
    assert "--net=/run/navarch/x/ns/w1/net" in argv
