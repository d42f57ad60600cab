"""Errors of the pod network."""

from __future__ import annotations

from machinery.errors import NavarchError


class NetworkError(NavarchError):
    """The kernel, or a tool, did not take a part of the network's set-up; the message says which."""
