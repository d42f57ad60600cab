"""Ansible's inventory, made of the machines; and how ssh reaches one of them.

Source: https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.topology import Role
from lab.vms.machines import Machines
from lab.vms.place import Place
from lab.vms.providers import Provider

GROUPS = {"loadbalancer": Role.LOAD_BALANCER, "control_plane": Role.CONTROL_PLANE, "worker": Role.WORKER}


def inventory(machines: Machines, variables: dict[str, Any]) -> dict[str, Any]:
    """What an inventory script prints for `--list`."""
    groups: dict[str, Any] = {
        group: {"hosts": [machine.name for machine in machines.of(role)]} for group, role in GROUPS.items()
    }
    groups["registry"] = {"hosts": [machines.registry.name]}
    own = {machine.name: {"ansible_host": machine.address} for machine in machines.all}
    return {"_meta": {"hostvars": own}, "all": {"children": [*groups], "vars": variables}, **groups}


def variables(place: Place) -> dict[str, Any]:
    """What roles and ssh need to know of this lab."""
    ours = place.provider() is not Provider.VIRTUALBOX
    return {
        "ansible_user": "root" if ours else "vagrant",
        "ansible_ssh_private_key_file": str(place.key),
        "ansible_ssh_common_args": " ".join(_options(place)),
        "own_box": ours,
        "patience": place.patience(),
        "state": str(place.folder),
    }


def ssh(place: Place, name: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` (a shell without any) on a machine. Raises LabError."""
    machine = place.machines().named(name)
    user = variables(place)["ansible_user"]
    target = ["-i", str(place.key), f"{user}@{machine.address}"]
    terminal = [] if argv else ["-t"]
    return ["ssh", "-q", *terminal, *_unquoted(place), *target, *argv]


def _unquoted(place: Place) -> list[str]:
    proxy = place.proxy_command()
    options = ["-o", f"UserKnownHostsFile={place.folder}/known_hosts", "-o", "StrictHostKeyChecking=accept-new"]
    return [*options, *(["-o", f"ProxyCommand={proxy}"] if proxy else [])]


def _options(place: Place) -> list[str]:
    return [f"'{each}'" if " " in each else each for each in _unquoted(place)]
