"""Which provider is chosen, and what is said when none can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.errors import LabError
from lab.vms.providers import Abilities, Provider, choose

BARE = Abilities(kvm=False, libvirt=False, virtualbox=False, qemu=False, x86=True, root=True, linux=True)


@pytest.mark.parametrize(
    ("able", "chosen"),
    [
        (BARE, Provider.UML),
        (replace(BARE, libvirt=True, kvm=True), Provider.LIBVIRT),
        (replace(BARE, libvirt=True, qemu=True), Provider.UML),  # emulation is slower than user-mode Linux
        (replace(BARE, virtualbox=True), Provider.VIRTUALBOX),
        (replace(BARE, virtualbox=True, kvm=True, libvirt=True), Provider.LIBVIRT),
        (replace(BARE, kvm=True), Provider.UML),  # nothing here uses it
    ],
)
def test_the_fastest_that_works(able: Abilities, chosen: Provider) -> None:
    assert choose(able) is chosen


def test_emulation_serves_those_who_ask_for_it() -> None:
    assert choose(replace(BARE, libvirt=True, qemu=True), "libvirt") is Provider.LIBVIRT


@pytest.mark.parametrize(
    ("able", "wanted", "told"),
    [
        (BARE, "libvirt", "libvirtd and vagrant-libvirt are not installed; neither KVM nor qemu is there"),
        (BARE, "virtualbox", "VBoxManage is not installed"),
        (replace(BARE, root=False), "uml", "must be root"),
        (BARE, "vmware", "no provider 'vmware': choose libvirt, virtualbox, uml"),
        (replace(BARE, x86=False), None, "uml: user-mode Linux runs on x86-64"),
    ],
)
def test_what_is_missing_is_told(able: Abilities, wanted: str | None, told: str) -> None:
    with pytest.raises(LabError) as caught:
        choose(able, wanted)
    assert told in str(caught.value)
