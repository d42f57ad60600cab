"""Why another server could not be reached, in the words of Go's network library: people search for them."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from machinery.errors import ServiceUnavailable, StatusError
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")


class Unreachable(ServiceUnavailable):
    """A server that requests are passed on to could not be reached; `why` is the reason alone."""

    def __init__(self, why: str) -> None:
        super().__init__(f"error trying to reach service: {why}")
        self.why = why


class DialError(StatusError):
    """A server that connections are passed on to could not be reached; `why` is the reason alone."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.reason = ""  # upstream did not think of a better one
        self.why = why


def bracketed(address: str) -> str:
    """An address as a URL has it."""
    return f"[{address}]" if ":" in address else address


def why(error: BaseException) -> str:
    """Why a request made with aiohttp failed."""
    if isinstance(error, TimeoutError):
        return "context deadline exceeded"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"tls: failed to verify certificate: x509: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"tls: {error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return why_not_dialled(error.os_error, error.host, error.port or 0)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error) or type(error).__name__


def why_not_dialled(error: BaseException, host: str, port: int) -> str:
    """Why no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error}"
    if isinstance(error, TimeoutError):
        return f"dial tcp {bracketed(host)}:{port}: i/o timeout"
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number).lower() if number else str(error)
    return f"dial tcp {bracketed(host)}:{port}: connect: {reason}"
