"""vagrant/machines.yaml: which machines there are. The Vagrantfile reads the same file.

A group is `count` machines of one role, named PREFIX1, PREFIX2, …, whose addresses follow each other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ryaml

from lab.errors import LabError
from lab.layout import PROJECT
from lab.topology import Role
from machinery.errors import SettingsError
from machinery.settings import read_yaml

FILE = PROJECT / "vagrant" / "machines.yaml"
MIN_MEMORY_MIB = 256
MAX_COUNT = 50

_PREFIX = re.compile(r"[a-z]{1,8}")


@dataclass(frozen=True, slots=True)
class Machine:
    """One virtual machine; its name is its hostname and its Node's name."""

    name: str
    role: Role
    address: str
    memory_mib: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Group:
    """Machines of one role."""

    role: Role
    prefix: str
    count: int
    first_address: str
    memory_mib: int
    cpus: int

    @property
    def machines(self) -> tuple[Machine, ...]:
        """PREFIX1, PREFIX2, …"""
        first = ipaddress.ip_address(self.first_address)
        return tuple(
            Machine(f"{self.prefix}{i + 1}", self.role, str(first + i), self.memory_mib, self.cpus)
            for i in range(self.count)
        )


@dataclass(frozen=True, slots=True)
class Machines:
    """All machines, and the network they share."""

    network: str
    gateway: str
    virtual_address: str
    groups: tuple[Group, ...]

    @property
    def all(self) -> tuple[Machine, ...]:
        """Every machine, in the file's order."""
        return tuple(machine for group in self.groups for machine in group.machines)

    def of(self, role: Role) -> tuple[Machine, ...]:
        """The machines of one role."""
        return tuple(machine for machine in self.all if machine.role is role)

    def named(self, name: str) -> Machine:
        """The machine of this name. Raises LabError."""
        for machine in self.all:
            if machine.name == name:
                return machine
        raise LabError(f"no machine {name!r}; there are {', '.join(m.name for m in self.all)}")

    @property
    def endpoint(self) -> str:
        """The address at which clients reach all API servers; without a load balancer there is one alone."""
        balancers = self.of(Role.LOAD_BALANCER) or self.of(Role.CONTROL_PLANE)
        return balancers[0].address if len(balancers) == 1 else self.virtual_address

    @property
    def registry(self) -> Machine:
        """The machine that has the images: the first load balancer, or the control plane that needs none."""
        return (self.of(Role.LOAD_BALANCER) or self.of(Role.CONTROL_PLANE))[0]

    def resized(self, counts: Mapping[Role, int | None]) -> Machines:
        """The same with other numbers of machines, where a number is given. Raises LabError."""
        groups = []
        for group in self.groups:
            count = counts.get(group.role)
            groups.append(group if count is None else replace(group, count=count))
        return checked(replace(self, groups=tuple(groups)), "the command line")

    def to_yaml(self) -> str:
        """As the file has it."""
        content = asdict(self)
        for group in content["groups"]:
            group["role"] = str(group["role"])
        content["groups"] = list(content["groups"])
        return str(ryaml.dumps(content))


def read_machines(path: Path = FILE) -> Machines:
    """What the file says. Raises LabError naming file and field."""
    try:
        documents = read_yaml(path)
    except SettingsError as exc:
        raise LabError(str(exc)) from exc
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise LabError(f"{path}: expected one object with network, gateway, virtual_address and groups")
    return parse_machines(documents[0], str(path))


def parse_machines(content: Mapping[str, Any], source: str) -> Machines:
    """What the parsed file says; `source` is named in errors. Raises LabError."""
    reader = _Reader(source, content)
    groups = reader.take("groups", list)
    machines = Machines(
        str(reader.address("network", ipaddress.IPv4Network)),
        str(reader.address("gateway", ipaddress.IPv4Address)),
        str(reader.address("virtual_address", ipaddress.IPv4Address)),
        tuple(_group(_Reader(f"{source}: groups[{i}]", group)) for i, group in enumerate(groups)),
    )
    reader.finish()
    return checked(machines, source)


def checked(machines: Machines, source: str) -> Machines:
    """The machines, if they can stand beside each other. Raises LabError."""
    for role in Role:
        groups = [group for group in machines.groups if group.role is role]
        if len(groups) != 1:
            raise LabError(f"{source}: {len(groups)} groups of role {role}, expected one")
        least = 1 if role is Role.CONTROL_PLANE else 0
        if not least <= groups[0].count <= MAX_COUNT:
            raise LabError(f"{source}: {groups[0].count} machines of role {role}: choose {least} to {MAX_COUNT}")
    planes = len(machines.of(Role.CONTROL_PLANE))
    if planes > 1 and not machines.of(Role.LOAD_BALANCER):
        raise LabError(f"{source}: {planes} control planes need a load balancer before them")
    network = ipaddress.ip_network(machines.network)
    owners: dict[str, str] = {}
    taken = [("gateway", machines.gateway), ("virtual_address", machines.virtual_address)]
    for name, address in [*taken, *((machine.name, machine.address) for machine in machines.all)]:
        if ipaddress.ip_address(address) not in network:
            raise LabError(f"{source}: {name} has address {address}, which is not in {network}")
        if address in owners:
            raise LabError(f"{source}: {owners[address]} and {name} have the same address {address}")
        owners[address] = name
    names = [machine.name for machine in machines.all]
    if len(set(names)) != len(names):
        raise LabError(f"{source}: two groups have the same prefix")
    return machines


class _Reader:
    def __init__(self, where: str, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise LabError(f"{where}: expected an object, got {fields!r}")
        self._where, self._fields = where, dict(fields)

    def take(self, name: str, kind: type) -> Any:
        if name not in self._fields:
            raise LabError(f"{self._where}: {name} is missing")
        value = self._fields.pop(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise LabError(f"{self._where}.{name}: expected {_KINDS[kind]}, got {value!r}")
        return value

    def address(self, name: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv4Network]) -> Any:
        try:
            return kind(self.take(name, str))
        except ValueError as exc:
            raise LabError(f"{self._where}.{name}: {exc}") from exc

    def number(self, name: str, least: int) -> int:
        value: int = self.take(name, int)
        if value < least:
            raise LabError(f"{self._where}.{name}: {value} is too small, at least {least}")
        return value

    def finish(self) -> None:
        if self._fields:
            raise LabError(f"{self._where}: unknown field {', '.join(sorted(self._fields))}")


_KINDS = {str: "a string", int: "a number", list: "a list"}


def _group(reader: _Reader) -> Group:
    role, prefix = reader.take("role", str), reader.take("prefix", str)
    if role not in list(Role):
        raise LabError(f"{reader._where}.role: {role!r} is not one of {', '.join(Role)}")
    if not _PREFIX.fullmatch(prefix):
        raise LabError(f"{reader._where}.prefix: {prefix!r} is not one to eight lower-case letters")
    group = Group(
        Role(role),
        prefix,
        reader.number("count", 0),
        str(reader.address("first_address", ipaddress.IPv4Address)),
        reader.number("memory_mib", MIN_MEMORY_MIB),
        reader.number("cpus", 1),
    )
    reader.finish()
    return group
