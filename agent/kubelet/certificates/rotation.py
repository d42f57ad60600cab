"""Renewing a certificate well before it expires, and using the new one at once.

Source: client-go util/certificate/certificate_manager.go (between 70 and 90 % of the lifetime).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial

from agent.kubelet import metrics
from agent.kubelet.certificates.requests import CLIENT_SIGNER, CertificateRefused, Wanted, request
from agent.kubelet.certificates.store import CertificateStore, Held
from machinery import pki
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.errors import SettingsError, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 2.0, 128.0

Use = Callable[[Held], Awaitable[None]]


class Rotation:
    """Keeps one certificate fresh. `use` is given each new one; the one that is there already is used by the caller."""

    def __init__(self, client: Client, store: CertificateStore, wanted: Wanted, clock: Clock, use: Use) -> None:
        self._client, self._store, self._wanted, self._clock, self._use = client, store, wanted, clock, use
        self._is_client = wanted.signer == CLIENT_SIGNER

    async def run(self) -> None:
        """Renew until cancelled."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            held = self._store.current()
            if held is not None:
                gauge = metrics.CLIENT_TTL if self._is_client else metrics.SERVER_TTL
                gauge.set_function(partial(self._seconds_left, held))
            if held is not None and self._fits(held):
                await self._clock.sleep(seconds_to_renewal(held, random.uniform(0.7, 0.9)))
            try:
                certificate, key = await request(self._client, self._wanted, self._clock)
                await self._use(self._store.write(certificate, key))
                pause = _FIRST_RETRY_SECONDS
                log.info("certificate renewed", signer=self._wanted.signer)
            except (StatusError, TransportError, CertificateRefused, SettingsError) as error:
                (metrics.CLIENT_ERRORS if self._is_client else metrics.SERVER_ERRORS).inc()
                log.error("cannot renew certificate", signer=self._wanted.signer, err=str(error))
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY_SECONDS)

    def _seconds_left(self, held: Held) -> float:
        return (held.certificate.not_valid_after_utc - self._clock.now()).total_seconds()

    def _fits(self, held: Held) -> bool:
        """Whether the certificate is for this node as it is now."""
        return set(self._wanted.names) <= set(pki.alternative_names(held.certificate))


def seconds_to_renewal(held: Held, fraction: float) -> float:
    """How long until this share of a certificate's lifetime has passed; 0 if it has."""
    start, end = held.certificate.not_valid_before_utc, held.certificate.not_valid_after_utc
    lifetime = (end - start).total_seconds()
    return max(0.0, lifetime * fraction - (lifetime - pki.remaining(held.certificate).total_seconds()))
