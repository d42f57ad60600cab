"""Which certificate a client is shown: by the host name that it asks for, and always as the files are now.

Source: kube-apiserver --help (--tls-sni-cert-key); k8s.io/apiserver/pkg/server/dynamiccertificates.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from machinery import pki
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

_LOOK_SECONDS = 60.0  # between two looks at the files


@dataclass(slots=True)
class Pair:
    """A certificate with its key, and the names it is for (none: those in it); `*.example.com` is one label."""

    certificate: str
    key: str
    names: tuple[str, ...] = ()
    context: ssl.SSLContext | None = None
    own_names: frozenset[str] = frozenset()
    seen: tuple[int, ...] = field(default=(), repr=False)

    def stamp(self) -> tuple[int, ...]:
        """Changes when the files do. Raises OSError."""
        times = [Path(path).stat() for path in (self.certificate, self.key)]
        return tuple(part for each in times for part in (each.st_mtime_ns, each.st_ino, each.st_size))


class ServingCertificates:
    """The pairs of a server: the first is shown to whoever asks for no other's name."""

    def __init__(self, pairs: Sequence[Pair], make: Callable[[Pair], ssl.SSLContext]) -> None:
        """`make` reads a pair's files. Raises what it raises."""
        self._pairs = list(pairs)
        self._make = make
        self._looked = time.monotonic()
        for pair in self._pairs:
            self._load(pair)

    @property
    def context(self) -> ssl.SSLContext:
        """What a connection begins with; the pair is chosen during the handshake."""
        context = self._pairs[0].context
        assert context is not None
        return context

    def _load(self, pair: Pair) -> None:
        stamp = pair.stamp()
        context = self._make(pair)
        certificate = pki.read_certificates(Path(pair.certificate))[0]
        pair.own_names = frozenset(pair.names or (*pki.alternative_names(certificate), pki.common_name(certificate)))
        if pair is self._pairs[0]:
            context.sni_callback = self._choose
        pair.context, pair.seen = context, stamp

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Called in each handshake."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self.refresh()
        connection.context = self.find(name or "").context or self.context

    def refresh(self) -> None:
        """Read again what has changed; what can't be read is shown as it was."""
        for pair in self._pairs:
            try:
                if pair.stamp() != pair.seen:
                    self._load(pair)
                    log.info("serving certificate read anew", file=pair.certificate)
            except (OSError, ssl.SSLError, NavarchError) as exc:
                log.error("serving certificate can't be read; the old one is kept", file=pair.certificate, error=exc)

    def find(self, name: str) -> Pair:
        """The pair for a host name: one that has it, then one with a pattern for it, then the first."""
        name = name.lower().rstrip(".")
        others = self._pairs[1:]
        for wanted in (name, "*." + name.partition(".")[2]):
            for pair in others:
                if wanted in pair.own_names:
                    return pair
        return self._pairs[0]
