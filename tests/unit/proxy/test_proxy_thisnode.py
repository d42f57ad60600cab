"""Where health check node ports are served."""

from __future__ import annotations

import pytest

from agent.proxy.configuration import ProxyConfiguration
from agent.proxy.model import Family, NodeView
from agent.proxy.thisnode import ThisNode, health_check_addresses

_NODE = ThisNode(NodeView("node"), ("192.0.2.7", "2001:db8::7"))
_OWN = ["127.0.0.1", "192.0.2.7", "198.51.100.3", "::1", "2001:db8::7"]


async def _own() -> list[str]:
    return _OWN


@pytest.mark.parametrize(
    ("mode", "entries", "expected"),
    [
        ("iptables", (), ["0.0.0.0", "::"]),
        ("nftables", (), ["192.0.2.7", "2001:db8::7"]),
        ("nftables", ("0.0.0.0/0",), ["0.0.0.0"]),
        ("iptables", ("198.51.100.0/24", "::/0"), ["198.51.100.3", "::"]),
        ("iptables", ("127.0.0.0/8", "192.0.2.0/24"), ["127.0.0.1", "192.0.2.7"]),
        ("iptables", ("203.0.113.0/24",), []),
    ],
)
async def test_health_checks_are_served_where_node_ports_are(
    mode: str, entries: tuple[str, ...], expected: list[str]
) -> None:
    configuration = ProxyConfiguration(mode=mode, node_port_addresses=entries)
    assert await health_check_addresses(list(Family), configuration, _NODE, _own) == expected


async def test_the_machine_is_not_asked_for_its_addresses_where_one_is_named() -> None:
    async def never() -> list[str]:
        raise AssertionError

    configuration = ProxyConfiguration(mode="nftables")
    assert await health_check_addresses([Family.IPV4], configuration, _NODE, never) == ["192.0.2.7"]
