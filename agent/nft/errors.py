"""Errors of nftables."""

from __future__ import annotations

from machinery.errors import NavarchError


class NftError(NavarchError):
    """nftables did not take a script, or is not there; the message says why."""
