"""Which provider is chosen, and what is said when none can be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.errors import LabError
from lab.vms.providers import Abilities, Provider, choose, driver, missing, patience

BARE = Abilities(kvm=False, libvirt_lacks=("qemu-utils",), virtualbox=False, x86=True, root=True, linux=True)
WITH_LIBVIRT = replace(BARE, libvirt_lacks=())


@pytest.mark.parametrize(
    ("able", "chosen"),
    [
        (BARE, Provider.UML),
        (replace(WITH_LIBVIRT, kvm=True), Provider.LIBVIRT),
        (WITH_LIBVIRT, Provider.UML),  # emulation is slower than user-mode Linux
        (replace(BARE, virtualbox=True), Provider.VIRTUALBOX),
        (replace(WITH_LIBVIRT, virtualbox=True, kvm=True), Provider.LIBVIRT),
        (replace(BARE, kvm=True), Provider.UML),  # nothing here uses it
    ],
)
def test_the_fastest_that_works(able: Abilities, chosen: Provider) -> None:
    assert choose(able) is chosen


def test_emulation_serves_those_who_ask_for_it() -> None:
    assert choose(WITH_LIBVIRT, "libvirt") is Provider.LIBVIRT
    assert driver(WITH_LIBVIRT) == "qemu"
    assert patience(driver(WITH_LIBVIRT)) > 1
    assert driver(replace(WITH_LIBVIRT, kvm=True)) == "kvm"


def test_what_is_not_installed_is_told_by_its_package() -> None:
    assert missing(lambda _: True) == ()
    assert missing(lambda path: "virsh" not in path) == ("libvirt-clients",)
    every = "vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients"
    assert missing(lambda _: False) == (*every.split(), "qemu-system-x86", "qemu-utils", "dnsmasq-base")


@pytest.mark.parametrize(
    ("able", "wanted", "told"),
    [
        (BARE, "libvirt", "provider libvirt can't be used: Debian packages are not installed: qemu-utils"),
        (replace(WITH_LIBVIRT, root=False, x86=False), "libvirt", "the guests' image is of x86-64; must be root"),
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
