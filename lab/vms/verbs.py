"""The verbs of a lab on virtual machines; and `navarch vms …`: what Vagrant's and Ansible's files call."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from pathlib import Path

from lab.errors import LabError
from lab.layout import Layout
from lab.vms.place import Place


def concerns(layout: Layout, arguments: argparse.Namespace) -> bool:
    """Whether a verb is about virtual machines: it says so, or the lab is one."""
    if arguments.verb in ("up", "vms") and getattr(arguments, "vms", True):
        return True
    there = Place(layout).exists()
    if there and arguments.verb == "up":
        raise LabError("a lab on virtual machines is there: `navarch up --vms`, or `navarch down` first")
    return there and arguments.verb in ("down", "status", "token", "enter", "logs", "stop", "start", "kill")


def carry_out(layout: Layout, arguments: argparse.Namespace) -> int | None:
    """Do what the verb says; returns the exit status, None for 0. Raises LabError."""
    place = Place(layout)
    match arguments.verb:
        case "vms":
            _called(place, arguments)
        case "up":
            from lab.vms import up

            wanted = up.Wanted(
                arguments.control_planes,
                arguments.workers,
                arguments.load_balancers,
                arguments.proxy_mode,
                arguments.api_port,
                arguments.provider,
            )
            asyncio.run(up.up(layout, wanted))
        case "down":
            from lab.vms import up

            up.down(place)
        case "token":
            raise LabError("a lab on virtual machines has no bearer token: use `navarch kubeconfig`")
        case _:
            return _look(place, arguments)
    return None


def _look(place: Place, arguments: argparse.Namespace) -> int | None:
    from lab.vms import control

    match arguments.verb:
        case "status":
            return control.status(place)
        case "enter":
            control.enter(place, arguments.host, arguments.command)
        case "logs":
            control.logs(place, arguments.host, arguments.component, follow=arguments.follow)
        case "stop":
            control.stop(place, arguments.host, arguments.components)
        case "start":
            control.start(place, arguments.host, arguments.components)
        case "kill":
            control.kill(place, arguments.host, arguments.component, arguments.signal)
    return None


def _called(place: Place, arguments: argparse.Namespace) -> None:
    match arguments.action:
        case "inventory":
            from lab.vms import inventory

            print(json.dumps(inventory.inventory(place.machines(), inventory.variables(place)), indent=1))
        case "release":
            from lab.vms import release

            print(asyncio.run(release.prepare(place)))
        case "push":
            from lab.vms import release

            asyncio.run(release.push_images(place))
        case "requirements":
            from lab.vms import payload

            print(" ".join(payload.dependency_versions()))
        case "files":
            _files(arguments)
        case "pack":
            from lab.vms import handover

            names = handover.SHARED if arguments.shared else arguments.names
            print(handover.pack(Path(arguments.folder), names))
        case "settled":
            from lab.vms import settled

            asyncio.run(settled.wait(Path("/")))
        case "unpack":
            from lab.vms import handover

            for path in handover.unpack(sys.stdin.read(), Path(arguments.folder)):
                print(f"wrote {path}")


def _files(arguments: argparse.Namespace) -> None:
    from lab.bootstrap.reading import read_configuration
    from lab.vms import hostfiles
    from lab.vms.machines import read_machines

    machines = read_machines(Path(arguments.machines))
    own = hostfiles.own(machines, read_configuration(arguments.config), socket.gethostname())
    for part in arguments.parts:
        for path in hostfiles.write(hostfiles.files(part, machines, own), Path("/")):
            print(f"wrote {path}")
