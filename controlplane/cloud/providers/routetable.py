"""Routes in a table of this host's kernel, marked as ours by their protocol number.

Source: ip-route(8), rtnetlink(7).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from controlplane.cloud.contract import CloudError, Route

PROTOCOL = 98
"""What rtnetlink calls the origin of a route; not one that the kernel or routing daemons use."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except (NetlinkError, OSError) as exc:
        raise CloudError(f"cannot {what}: {exc}") from exc


@dataclass(frozen=True)
class KernelRoutes:
    """The routes of one table."""

    table: int
    network: str = ""
    """The network namespace, by name or path; "" is this process' own."""

    def _open(self) -> AsyncIPRoute:
        return AsyncIPRoute(netns=self.network, flags=0) if self.network else AsyncIPRoute()

    async def list(self) -> list[Route]:
        """Ours."""
        found: list[Route] = []
        with _mapped("list routes"):
            async with self._open() as kernel:
                for family in _FAMILIES:
                    async for message in await kernel.route("dump", family=family, table=self.table):
                        if int(message["proto"]) == PROTOCOL and _table(message) == self.table:
                            destination = f"{message.get('dst')}/{message['dst_len']}"
                            found.append(Route(destination, str(message.get("gateway"))))
        return found

    async def create(self, route: Route) -> None:
        """Make it, or lead it to another gateway."""
        with _mapped(f"route {route.destination} to {route.gateway}"):
            async with self._open() as kernel:
                await kernel.route(
                    "replace", dst=route.destination, gateway=route.gateway, table=self.table, proto=PROTOCOL
                )

    async def delete(self, route: Route) -> None:
        """Take it away."""
        with _mapped(f"delete the route to {route.destination}"):
            async with self._open() as kernel:
                try:
                    await kernel.route(
                        "del", dst=route.destination, gateway=route.gateway, table=self.table, proto=PROTOCOL
                    )
                except NetlinkError as exc:
                    if exc.code != errno.ESRCH:
                        raise


def _table(message: Any) -> int:
    """The table of a route message: an attribute where the number does not fit into the header's octet."""
    attribute = message.get("table")
    return int(attribute if attribute is not None else message["table"])
