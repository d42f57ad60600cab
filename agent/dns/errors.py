"""Errors of the DNS server."""

from __future__ import annotations

from machinery.errors import NavarchError


class ResolveError(NavarchError):
    """No upstream resolver gave a usable answer; the message says why."""
