"""The lab's own libvirt: the network that its guests share."""

from __future__ import annotations

import ipaddress
from xml.etree import ElementTree

from lab.layout import Layout
from lab.vms import libvirt
from lab.vms.machines import read_machines
from lab.vms.place import Place

MACHINES = read_machines()


def test_the_network_keeps_an_address_for_every_machine_and_has_no_way_out() -> None:
    network = ElementTree.fromstring(libvirt.network(MACHINES))
    assert network.find("forward") is None
    own = network.find("ip")
    assert own is not None
    assert (own.get("address"), own.get("netmask")) == ("10.77.0.1", "255.255.255.0")
    kept = {host.get("ip"): host.get("mac") for host in network.iter("host")}
    assert kept["10.77.0.11"] == "02:4e:0a:4d:00:0b"
    # Workers can be added without another network.
    assert {machine.address for machine in MACHINES.all} | {"10.77.0.150"} <= set(kept)
    assert len(set(kept.values())) == len(kept)
    assert MACHINES.gateway not in kept
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network(MACHINES.network) for each in kept if each)


def test_without_a_lab_nothing_is_emulated_and_nothing_is_there_to_end() -> None:
    place = Place(Layout("there-is-none"))
    assert place.patience() == 1.0
    libvirt.stop(place)
