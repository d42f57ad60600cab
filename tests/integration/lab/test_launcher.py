"""The launcher on machines it can't set up: one line, and nothing half-done."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.conditions import until
from lab.layout import PROJECT

# No index of packages but the one that can't be reached from an empty network namespace.
OFFLINE = {"PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "2"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with nothing in it but what the launcher itself reads."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("navarch", "requirements.lock"):
        shutil.copy(PROJECT / name, folder / name)
    for parent in (tmp_path, *tmp_path.parents):
        if Path("/tmp") in parent.parents:
            parent.chmod(0o755)
    return folder


def launch(*argv: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env={**clean, **(environment or {})})


def assert_one_line(done: subprocess.CompletedProcess[str], told: str) -> None:
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done
    assert lines[0].startswith("navarch: error: "), done
    assert told in lines[0], done


def test_without_root(checkout: Path) -> None:
    done = launch("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", str(checkout / "navarch"), "up")
    assert_one_line(done, "must be run as root")


def test_on_another_system(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "os-release"
    other.write_text('ID=debian\nVERSION_ID="11"\n')
    script = f"mount --bind {other} /etc/os-release && exec {checkout}/navarch up"
    assert_one_line(launch("unshare", "--mount", "sh", "-c", script), "needs Debian 12, and this is debian 11")


def test_without_room(checkout: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    script = f"mount -t tmpfs -o size=20m tmpfs {full} && cp {checkout}/* {full} && exec {full}/navarch setup"
    done = launch("unshare", "--mount", "sh", "-c", script)
    assert_one_line(done, "MiB left, and setting up needs 900: make room")


def test_without_network(checkout: Path) -> None:
    done = launch("unshare", "--net", str(checkout / "navarch"), "setup", environment=OFFLINE)
    assert_one_line(done, "cannot install Python packages (no network?): ERROR: ")
    assert not (checkout / ".venv").exists()


async def test_interrupted_it_leaves_nothing_half_done(checkout: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(checkout / "navarch"), "setup", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await until(lambda: (checkout / ".venv/bin/python").exists(), 30)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 143
        assert not (checkout / ".venv").exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_asking_for_help_sets_nothing_up(checkout: Path) -> None:
    done = launch(str(checkout / "navarch"), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Begin with" in done.stdout
    assert not (checkout / ".venv").exists()
