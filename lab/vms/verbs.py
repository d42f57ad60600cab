"""`navarch vms …`: what Vagrant's and Ansible's files call, on the user's machine and on the guests."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from pathlib import Path

from lab.layout import Layout
from lab.vms import handover, hostfiles
from lab.vms.machines import read_machines
from lab.vms.place import Place


def vms(layout: Layout, arguments: argparse.Namespace) -> None:
    """Carry out one of them. Raises LabError."""
    place = Place(layout)
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
            names = handover.SHARED if arguments.shared else arguments.names
            print(handover.pack(Path(arguments.folder), names))
        case "unpack":
            for path in handover.unpack(sys.stdin.read(), Path(arguments.folder)):
                print(f"wrote {path}")


def _files(arguments: argparse.Namespace) -> None:
    machines = read_machines(Path(arguments.machines))
    own = hostfiles.own(machines, socket.gethostname())
    for part in arguments.parts:
        for path in hostfiles.write(hostfiles.files(part, machines, own), Path("/")):
            print(f"wrote {path}")
