"""Errors of the service proxy."""

from __future__ import annotations

from machinery.errors import NavarchError


class BackendError(NavarchError):
    """The kernel, or the tool that speaks to it, did not take the rules; nothing of them took effect."""
