"""IP addresses and ranges of them, as texts that may be neither."""

from __future__ import annotations

from ipaddress import ip_address, ip_network


def is_address(text: str) -> bool:
    """Whether this is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """Whether this is an address with a prefix length."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text
