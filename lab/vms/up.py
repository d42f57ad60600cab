"""`navarch up --vms` and its `down`: from nothing to a cluster of virtual machines whose nodes are ready."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import access, sweep
from lab.bootstrap import dns, kubeconfig
from lab.bootstrap.configuration import BIND_PORT, join_host_port
from lab.conditions import until_async
from lab.errors import LabError
from lab.layout import PROJECT, Layout
from lab.progress import Steps, console
from lab.starting import unavailable, unready
from lab.topology import Role, Topology
from lab.verbs.up import free_port
from lab.vms import control, forward, guests, providers
from lab.vms.box import BOOT, box
from lab.vms.kernel import kernel
from lab.vms.machines import read_machines
from lab.vms.place import Place
from lab.vms.providers import Provider
from lab.vms.release import PROXY_MODE_FILE
from machinery import pki
from machinery.client.config import ClientConfig
from machinery.client.rest import Client

_READY_SECONDS = 300.0
_ANSIBLE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for; None: as vagrant/machines.yaml and ansible/cluster.yaml have it."""

    control_planes: int | None
    workers: int | None
    load_balancers: int | None
    proxy_mode: str | None
    api_port: int
    provider: str | None


async def up(layout: Layout, wanted: Wanted) -> None:
    """Bring the lab up, or finish bringing it up. Raises LabError saying what stands in the way."""
    started, steps, place = time.monotonic(), Steps(), Place(layout)
    if not place.exists() and sweep.exists(layout):
        raise LabError("a lab on this one machine is there: `navarch down` first, or choose another NAVARCH_LAB")
    provider = providers.choose(providers.abilities(), wanted.provider)
    await _prepare(place, wanted, provider, steps)
    names = [machine.name for machine in place.machines().all]
    with steps.step(f"machines {', '.join(names)} ({provider})"):
        guests.up(place)
    with steps.step("cluster, by Ansible"):
        playbook(place, "site.yml")
    await _reach(place, wanted.api_port)
    await _ready(place, steps)
    known = access.make_known(layout)
    console.print(f"\nThe lab is up ({time.monotonic() - started:.0f} s); {known} knows it. `navarch down` removes it.")


async def _prepare(place: Place, wanted: Wanted, provider: Provider, steps: Steps) -> None:
    """Write what Vagrant and Ansible read."""
    counts = {
        Role.LOAD_BALANCER: wanted.load_balancers,
        Role.CONTROL_PLANE: wanted.control_planes,
        Role.WORKER: wanted.workers,
    }
    if place.exists():
        there = place.machines()
        machines = there.resized(counts)
        for role in (Role.LOAD_BALANCER, Role.CONTROL_PLANE):
            if machines.of(role) != there.of(role):
                raise LabError(f"the number of {role}s of a lab that is there can't be changed: `navarch down` first")
    else:
        machines = read_machines().resized(counts)
        free_port(wanted.api_port)
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.machines_file.write_text(machines.to_yaml())
    (place.folder / "provider").write_text(f"{provider}\n")
    if wanted.proxy_mode:
        (place.folder / PROXY_MODE_FILE).write_text(wanted.proxy_mode)
    planes, workers = (len(machines.of(role)) for role in (Role.CONTROL_PLANE, Role.WORKER))
    shape = Topology(planes, workers, wanted.proxy_mode or "nftables", wanted.api_port)
    place.layout.topology_file.write_text(shape.to_json())
    guests.make_key(place)
    await _link_images(place, provider, steps)


async def _link_images(place: Place, provider: Provider, steps: Steps) -> None:
    match provider:
        case Provider.UML:
            guests.link(place, "linux", await kernel(steps))
            guests.link(place, "box.ext4", await box(steps))
        case Provider.LIBVIRT:
            place.driver_file.write_text(f"{providers.driver(providers.abilities())}\n")
            image = await box(steps, kernel=True)
            guests.link(place, "box.ext4", image)
            for each in BOOT:
                guests.link(place, each, image.with_suffix(f".{each}"))


def playbook(place: Place, name: str, variables: Mapping[str, str] | None = None, limit: str = "") -> None:
    """Run a playbook of ansible/ on the lab. Raises LabError with the end of what it said."""
    environment = os.environ | {
        "NAVARCH_LAB": place.layout.name,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible" / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(place.folder / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/run/navarch/{place.layout.name}/ssh",
        "ANSIBLE_NOCOLOR": "1",
    }
    more = ["-e", json.dumps(dict(variables))] if variables else []
    more += ["--limit", limit] if limit else []
    program = Path(sys.prefix) / "bin" / "ansible-playbook"
    argv = [str(program), str(PROJECT / "ansible" / name), *more]
    guests.logged(place, "ansible.log", argv, environment, _ANSIBLE_SECONDS * place.patience())


async def _reach(place: Place, api_port: int) -> None:
    """Let this machine's loopback lead to the cluster, and fetch an administrator's kubeconfig."""
    machines = place.machines()
    forward.start(place, api_port, join_host_port(machines.endpoint, BIND_PORT))
    first = machines.of(Role.CONTROL_PLANE)[0].name
    fetched = place.folder / "admin.conf"
    pki.write_file(fetched, control.run(place, first, f"cat {kubeconfig.ADMIN.file}").encode())
    admin = kubeconfig.read(fetched)
    admin["clusters"][0]["cluster"]["server"] = f"https://{join_host_port('127.0.0.1', api_port)}"
    kubeconfig.write(place.layout.kubeconfig, admin)
    fetched.unlink()


async def _ready(place: Place, steps: Steps) -> None:
    names = [machine.name for machine in place.machines().all if machine.role is not Role.LOAD_BALANCER]
    async with Client(ClientConfig.from_kubeconfig(place.layout.kubeconfig), user_agent="navarch") as client:
        told = ""

        async def ready() -> bool:
            nonlocal told
            told = await unready(client, names) or await unavailable(client, dns.NAME)
            return not told

        seconds = _READY_SECONDS * place.patience()
        with steps.step(f"nodes {', '.join(names)} ready, cluster DNS"):
            try:
                await until_async(ready, seconds, every_seconds=1)
            except TimeoutError as exc:
                raise LabError(f"not within {seconds:g} s: {told}") from exc


def down(place: Place) -> None:
    """Remove machines, network and files. Raises LabError for what resists."""
    access.forget(place.layout)
    with Steps().step("lab on virtual machines removed"):
        forward.stop(place)
        if place.machines_file.exists() and (place.folder / "provider").exists():
            guests.destroy(place)
        for folder in (place.layout.state, place.layout.runtime):
            shutil.rmtree(folder, ignore_errors=True)
