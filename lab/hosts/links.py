"""The lab's network: one bridge in a namespace of its own, a virtual cable to each host, and no way out.

Source: rtnetlink(7), veth(4).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lab.errors import LabError
from lab.layout import NETWORK, Layout
from lab.topology import GATEWAY, PREFIX_LENGTH, Host

BRIDGE = "br0"


async def connect_hosts(layout: Layout, hosts: Iterable[Host]) -> None:
    """Make the bridge and plug every host's eth0 into it. Raises LabError."""
    network = str(layout.namespace(NETWORK, "net"))
    try:
        async with AsyncIPRoute(netns=network, flags=0) as route:
            await route.link("add", ifname=BRIDGE, kind="bridge")
            bridge = await _index(route, BRIDGE)
            await route.link("set", index=bridge, state="up")
            await route.addr("add", index=bridge, address=GATEWAY, prefixlen=PREFIX_LENGTH)
            for host in hosts:
                await _plug(route, bridge, host, layout.namespace(host.name, "net"))
    except (NetlinkError, OSError) as exc:
        raise LabError(f"cannot make the lab's network: {exc}") from exc


async def _plug(route: AsyncIPRoute, bridge: int, host: Host, namespace: Path) -> None:
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        await route.link("add", ifname=host.name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": descriptor})
    finally:
        os.close(descriptor)
    await route.link("set", index=await _index(route, host.name), master=bridge, state="up")
    async with AsyncIPRoute(netns=str(namespace), flags=0) as inside:
        card = await _index(inside, "eth0")
        await inside.addr("add", index=card, address=host.address, prefixlen=PREFIX_LENGTH)
        await inside.link("set", index=card, state="up")
        # Nothing answers beyond the gateway, but a service's address must have a route before it can be translated.
        await inside.route("add", dst="default", gateway=GATEWAY)


async def _index(route: AsyncIPRoute, name: str) -> int:
    return int((await route.link_lookup(ifname=name))[0])
