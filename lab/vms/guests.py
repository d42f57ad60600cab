"""Bringing the machines up and down: Vagrant, with all that it keeps in the lab's own folder.

Source: https://developer.hashicorp.com/vagrant/docs/other/environmental-variables.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError
from lab.layout import PROJECT
from lab.vms import libvirt
from lab.vms.place import Place
from lab.vms.providers import Provider

_SHOWN_LINES = 12


def up(place: Place, names: Sequence[str] = (), seconds: float = 900) -> None:
    """Bring machines up (all without names); those that run are left alone. Raises LabError."""
    if place.provider() is Provider.LIBVIRT:
        libvirt.start(place)
    _vagrant(place, seconds, "up", f"--provider={place.provider()}", *names)


def halt(place: Place, name: str, *, force: bool = False) -> None:
    """Power a machine off; `force` pulls the plug. Raises LabError."""
    _vagrant(place, 120, "halt", *(["--force"] if force else []), name)


def destroy(place: Place) -> None:
    """Remove every machine and their network. Raises LabError."""
    if place.provider() is Provider.LIBVIRT:
        libvirt.stop(place)  # all that the machines were is in the lab's folder: Vagrant has nothing to add
        return
    _vagrant(place, 300, "destroy", "--force")


def make_key(place: Place) -> None:
    """The administrator's key, once."""
    if not place.key.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "navarch", "-f", str(place.key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def link(place: Place, name: str, target: Path) -> None:
    """Let NAME in the lab's folder lead to the target."""
    temporary = place.folder / f"{name}.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(place.folder / name)


def logged(place: Place, log: str, argv: Sequence[str], environment: dict[str, str], seconds: float) -> None:
    """Run a program whose output goes to a log of the lab; LabError has its last lines."""
    path = place.folder / log
    with path.open("ab") as file:
        began = file.tell()
        try:
            done = subprocess.run(
                argv,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError as exc:
            raise LabError(f"{argv[0]} is not installed: run `navarch setup --vms`") from exc
        except subprocess.TimeoutExpired as exc:
            raise LabError(f"{argv[0]}: not done after {seconds:g} s (log: {path})") from exc
    if done.returncode != 0:
        said = path.read_bytes()[began:].decode(errors="replace").strip().splitlines()
        raise LabError("\n".join([f"{argv[0]} failed (log: {path}):", *said[-_SHOWN_LINES:]]))


def _vagrant(place: Place, seconds: float, *argv: str) -> None:
    environment = os.environ | {
        "NAVARCH_LAB": place.layout.name,
        "NAVARCH_VMS": str(place.folder),
        "NAVARCH_MACHINES": str(place.machines_file),
        "VAGRANT_CWD": str(PROJECT),
        "VAGRANT_DOTFILE_PATH": str(place.folder / "vagrant"),
        "VAGRANT_HOME": str(place.folder / "home"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
    }
    logged(place, "vagrant.log", ["vagrant", *argv], environment, seconds * place.patience())
