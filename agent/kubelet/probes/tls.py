"""TLS for probes: every probe makes a connection and shakes hands, but with a server that it knows the short way.

Source: RFC 8446, 2.2 (resumption); Python's ssl module, SSLSession.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import Any

_REMEMBERED = 256  # servers


class Contexts:
    """A context for each server, so that its sessions are offered to no other."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], ResumingContext] = OrderedDict()

    def of(self, host: str, port: int) -> ssl.SSLContext:
        """The context for connections to this server."""
        context = self._known.pop((host, port), None) or ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
        self._known[host, port] = context
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return context


class ResumingContext(ssl.SSLContext):
    """A client's context that takes up the session of its last connection, if the server lets it.

    A probe asks whether something answers, not whether it is who it says: certificates aren't verified.
    """

    _last: ssl.SSLObject | None = None
    _resumed: ssl.SSLSession | None = None

    def __init__(self, protocol: int) -> None:
        del protocol  # which the base class takes in __new__
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As the base class has it. With TLS 1.3 a session comes after the handshake, so it is looked for only now.

        As long as the server takes up a session it is kept: to read one costs as much as it spares.
        """
        if self._last is not None and not self._last.session_reused:
            self._resumed = _session(self._last)
        options: dict[str, Any] = {"server_hostname": server_hostname, "session": session or self._resumed}
        self._last = super().wrap_bio(incoming, outgoing, server_side, **options)
        return self._last


def _session(connection: ssl.SSLObject) -> ssl.SSLSession | None:
    """The session of a connection; None where the handshake was cut short, which left a half of one."""
    try:
        return connection.session
    except ValueError:
        return None
