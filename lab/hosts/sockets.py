"""Connections from this process into the network of a lab host.

A socket belongs for good to the network namespace its thread was in when it was made; so the thread steps in for that
moment alone.

Source: setns(2), network_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def socket_in(namespace: Path, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A new socket of the network namespace. Raises OSError."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        other = os.open(namespace, os.O_RDONLY)
        try:
            _enter(other)
            try:
                return socket.socket(family, kind, protocol)
            finally:
                _enter(own)
        finally:
            os.close(other)
    finally:
        os.close(own)


def factory(namespace: Path) -> Callable[[Any], socket.socket]:
    """For aiohttp.TCPConnector(socket_factory=…): connect from within the namespace."""

    def make(address: Any) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket_in(namespace, family, kind, protocol)
        made.setblocking(False)
        return made

    return make


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
