"""Pods that talk to the outside do so with their node's address; among pods, addresses are kept.

Source: Kubernetes networking model; nft(8).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from agent.network.errors import NetworkError
from agent.nft import command
from agent.nft.errors import NftError

TABLE = "pod-network"
_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
_FAMILY = {4: "ip", 6: "ip6"}


def render(own_ranges: Sequence[str], pod_ranges: Sequence[str]) -> bytes:
    """The script that makes the rules for this node's ranges, in place of any that are there."""
    lines = []
    for version, family in _FAMILY.items():
        lines += [f"add table {family} {TABLE}", f"delete table {family} {TABLE}"]
        own = [r for r in own_ranges if ip_network(r).version == version]
        if not own:
            continue

        inside = [_MULTICAST[version], *(r for r in pod_ranges if ip_network(r).version == version)]
        lines += [
            f"table {family} {TABLE} {{",
            '  comment "pods to the outside";',
            "  chain postrouting {",
            "    type nat hook postrouting priority 100;",
            f"    {family} saddr {{ {', '.join(own)} }} {family} daddr != {{ {', '.join(sorted(inside))} }} "
            "masquerade fully-random",
            "  }",
            "}",
        ]
    return "".join(line + "\n" for line in lines).encode()


async def apply(script: bytes) -> None:
    """Carry a script out, as a whole or not at all. Raises NetworkError."""
    try:
        await command.apply(script)
    except NftError as error:
        raise NetworkError(f"masquerading: {error}") from error
