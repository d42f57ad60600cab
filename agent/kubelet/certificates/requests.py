"""Asking the cluster for a certificate, and waiting for it.

Source: client-go util/certificate/csr; Certificates and Certificate Signing Requests, TLS bootstrapping.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from machinery import pki
from machinery.api import meta
from machinery.api.catalogue import CERTIFICATESIGNINGREQUESTS
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.errors import NavarchError, NotFound
from machinery.log import get_logger

log = get_logger(__name__)

CLIENT_SIGNER, SERVING_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
_CLIENT_USAGES, _SERVING_USAGES = ("digital signature", "client auth"), ("digital signature", "server auth")
_POLL_SECONDS = 1.0
_WAIT_SECONDS = 900.0
_ALGORITHM = "ECDSA-P256"


class CertificateRefused(NavarchError):
    """The request was denied, failed, or nobody answered it in time."""


@dataclass(frozen=True)
class Wanted:
    """What is to be certified."""

    node_name: str
    signer: str
    names: tuple[str, ...] = ()  # DNS names and addresses of a serving certificate

    @property
    def usages(self) -> tuple[str, ...]:
        """Key usages to ask for; for an elliptic curve key there is no key encipherment."""
        return _CLIENT_USAGES if self.signer == CLIENT_SIGNER else _SERVING_USAGES


async def request(client: Client, wanted: Wanted, clock: Clock) -> tuple[bytes, bytes]:
    """(certificate, key) in PEM. Raises CertificateRefused, StatusError, TransportError."""
    key = pki.new_key(_ALGORITHM)
    asked = pki.make_request(key, f"system:node:{wanted.node_name}", organizations=["system:nodes"], names=wanted.names)
    prefix = "node-csr-" if wanted.signer == CLIENT_SIGNER else "csr-"
    made = await client.create(
        CERTIFICATESIGNINGREQUESTS,
        {
            "apiVersion": CERTIFICATESIGNINGREQUESTS.api_version,
            "kind": CERTIFICATESIGNINGREQUESTS.kind,
            "metadata": {"generateName": prefix},
            "spec": {
                "request": base64.b64encode(asked).decode(),
                "signerName": wanted.signer,
                "usages": list(wanted.usages),
            },
        },
    )
    name = meta.name_of(made)
    log.info("waiting for certificate", request=name, signer=wanted.signer)
    return await _issued(client, name, clock), pki.key_pem(key)


async def _issued(client: Client, name: str, clock: Clock) -> bytes:
    began = clock.monotonic()
    while clock.monotonic() - began < _WAIT_SECONDS:
        try:
            found = await client.get(CERTIFICATESIGNINGREQUESTS, name)
        except NotFound as error:
            raise CertificateRefused(f"certificate signing request {name} was deleted") from error
        status = found.get("status") or {}
        problem = _problem(status.get("conditions") or ())
        if problem:
            raise CertificateRefused(f"certificate signing request {name} {problem}")
        if status.get("certificate"):
            return base64.b64decode(status["certificate"])
        await clock.sleep(_POLL_SECONDS)
    raise CertificateRefused(f"certificate signing request {name}: nobody approved and signed it in time")


def _problem(conditions: Iterable[Object]) -> str:
    for condition in conditions:
        if condition["type"] == "Denied":
            return f"is denied, reason: {condition.get('reason')}, message: {condition.get('message')}"
        if condition["type"] == "Failed":
            return f"failed, reason: {condition.get('reason')}, message: {condition.get('message')}"
    return ""
