"""Cluster IPs: an address is taken by creating the IPAddress object of its name.

The lower part of a range is left to those who choose addresses themselves; the server chooses from there only when
the rest is full.

Source: KEP-1880, "Multiple Service CIDRs"; KEP-3070, "Reserve Service IP ranges";
pkg/registry/core/service/ipallocator.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import IPADDRESSES, SERVICECIDRS
from machinery.api.meta import Object, condition, is_deleting
from machinery.errors import AlreadyExists, NavarchError, NotFound

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FAMILY_LABEL = "ipaddress.kubernetes.io/ip-family"
MANAGED_LABEL = "ipaddress.kubernetes.io/managed-by"
MANAGER = "ipallocator.k8s.io"
_TRIES = 64  # random addresses tried before all are looked at in turn
_LARGEST = 1 << 16  # addresses of an IPv6 range that are used


class NotAllocated(NavarchError):
    """An address can't be had; the message is upstream's."""


def family_of(address: str) -> str:
    """IPv4 or IPv6."""
    return "IPv6" if ":" in address else "IPv4"


def parse(address: str) -> Address | None:
    """An address in its canonical form; None if it isn't one."""
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Range:
    """The addresses of a network that Services may have: neither the first nor, in IPv4, the last."""

    network: Network

    @property
    def first(self) -> int:
        """The lowest address, as a number."""
        return int(self.network.network_address) + 1

    @property
    def size(self) -> int:
        """How many there are."""
        total = min(self.network.num_addresses, _LARGEST + 1)
        return max(0, total - (2 if self.network.version == 4 else 1))

    @property
    def static(self) -> int:
        """How many at the start are left to those who choose themselves."""
        total = self.network.num_addresses
        if total < 16:
            return 0
        return min(max(16, total // 16), 256)

    def address(self, offset: int) -> str:
        """The address at an offset."""
        number = self.first + offset
        made = ipaddress.IPv4Address(number) if self.network.version == 4 else ipaddress.IPv6Address(number)
        return str(made)

    def holds(self, address: Address) -> bool:
        """Whether a Service may have this address."""
        if address.version != self.network.version or address not in self.network:
            return False
        return 0 <= int(address) - self.first < max(self.size, self.network.num_addresses - 2)

    def choices(self) -> Iterable[str]:
        """Addresses to try: random ones above the static part, then all there, then the static part."""
        low = min(self.static, self.size)
        high = self.size - low
        if high > 0:
            for _ in range(min(_TRIES, high)):
                yield self.address(low + secrets.randbelow(high))
        for offset in (*range(low, self.size), *range(low)):
            yield self.address(offset)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Takes and gives back cluster IPs. `ranges` are the server's own, the first being the default family's."""

    ranges: Sequence[Network]
    reader: Reader
    loopback: Loopback

    @property
    def families(self) -> tuple[str, ...]:
        """The cluster's families, the default one first."""
        return tuple(f"IPv{network.version}" for network in self.ranges)

    def _ranges(self, family: str) -> list[Range]:
        """The ranges of a family: those of all ServiceCIDRs that are ready."""
        found: dict[str, Range] = {}
        for obj in self.reader.list(SERVICECIDRS):
            ready = condition((obj.get("status") or {}).get("conditions"), "Ready")
            if is_deleting(obj) or ready is None or ready.get("status") != "True":
                continue
            for text in (obj.get("spec") or {}).get("cidrs") or ():
                network = ipaddress.ip_network(text, strict=False)
                if f"IPv{network.version}" == family:
                    found[str(network)] = Range(network)
        for network in self.ranges:
            if not found and f"IPv{network.version}" == family:
                found[str(network)] = Range(network)
        return list(found.values())

    async def take(self, address: str, service: Object) -> str:
        """Take this address for a Service. Raises NotAllocated."""
        parsed = parse(address)
        if parsed is None or not any(r.holds(parsed) for r in self._ranges(family_of(address))):
            raise NotAllocated("the provided network does not match the current range")
        name = str(parsed)
        if not await self._create(name, service):
            raise NotAllocated("provided IP is already allocated")
        return name

    async def choose(self, family: str, service: Object, *, dry_run: bool) -> str:
        """Take a free address of a family. Raises NotAllocated when there is none."""
        for span in self._ranges(family):
            for address in span.choices():
                if self.reader.get(IPADDRESSES, "", address) is not None:
                    continue
                if dry_run or await self._create(address, service):
                    return address
        raise NotAllocated("range is full")

    async def _create(self, address: str, service: Object) -> bool:
        meta = service["metadata"]
        parent = {"group": "", "resource": "services", "namespace": meta.get("namespace"), "name": meta.get("name")}
        obj: Object = {
            "metadata": {
                "name": address,
                "labels": {FAMILY_LABEL: family_of(address), MANAGED_LABEL: MANAGER},
            },
            "spec": {"parentRef": parent},
        }
        try:
            await self.loopback.create(IPADDRESSES, obj)
        except AlreadyExists:
            return False
        return True

    async def give_back(self, address: str, service: Object) -> None:
        """Give back an address that the Service has. Does nothing if it is another's."""
        parsed = parse(address)
        if parsed is None:
            return
        try:
            found = await self.loopback.get(IPADDRESSES, str(parsed))
            parent = (found.get("spec") or {}).get("parentRef") or {}
            meta = service["metadata"]
            if (parent.get("namespace"), parent.get("name")) == (meta.get("namespace"), meta.get("name")):
                await self.loopback.delete(IPADDRESSES, str(parsed), uid=found["metadata"]["uid"])
        except NotFound:
            return
