"""Names of the chains and sets that belong to one service port: stable, unique, and upstream's own.

Source: kube-proxy's iptables and nftables proxiers; see docs/decisions for where the rules differ.
"""

from __future__ import annotations

from base64 import b32encode
from functools import lru_cache
from hashlib import sha256

from agent.proxy.model import Endpoint, ServicePortName

# nft's own limit is 255 (NFT_NAME_MAXLEN with the closing zero); the longest prefix, "service-local-", is left room
# for.
_NFT_BASE_CHARS = 230


def _digest(text: str) -> str:
    return b32encode(sha256(text.encode()).digest()).decode()


@lru_cache(maxsize=4096)
def port_hash(name: ServicePortName) -> str:
    """The 16 characters after KUBE-SVC-, KUBE-EXT-, …"""
    return _digest(f"{name}{name.protocol}")[:16]


def endpoint_hash(name: ServicePortName, endpoint: Endpoint) -> str:
    """The 16 characters after KUBE-SEP-."""
    return _digest(f"{name}{name.protocol}{endpoint}")[:16]


@lru_cache(maxsize=4096)
def nft_base(name: ServicePortName) -> str:
    """The rest of an nftables chain's name after `service-`, `external-`, …"""
    return _hashed(f"{name.namespace}/{name.name}/{name.protocol}/{name.port}")


def nft_endpoint_base(name: ServicePortName, endpoint: Endpoint) -> str:
    """The same for one endpoint: after `endpoint-`, `affinity-`."""
    where = f"{endpoint.ip}/{endpoint.port}".replace(":", ".")
    return _hashed(f"{name.namespace}/{name.name}/{name.protocol}/{name.port}__{where}")


def _hashed(text: str) -> str:
    return f"{_digest(text)[:8]}-{text}"[:_NFT_BASE_CHARS]
