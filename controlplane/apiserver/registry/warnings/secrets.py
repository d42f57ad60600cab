"""Warnings about Secrets: a certificate and a key that don't go together.

Source: pkg/registry/core/secret/strategy.go; Go's crypto/tls (X509KeyPair), whose words these are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key

from controlplane.apiserver.registry.objects import strings, text
from machinery.api.meta import Object

_BLOCK = re.compile(rb"-----BEGIN ([^\n-]*)-----[ \t\r]*\n(.*?)-----END \1-----", re.DOTALL)
_HEADER = re.compile(rb"^[^\n]*:[^\n]*\n", re.MULTILINE)


def secret(new: Object, old: Object | None) -> list[str]:
    """A Secret."""
    if text(new, "type") != "kubernetes.io/tls":
        return []
    data = strings(new, "data")
    told = _pair(base64.b64decode(data.get("tls.crt", "")), base64.b64decode(data.get("tls.key", "")))
    return [told] if told else []


def _blocks(pem: bytes) -> Iterator[tuple[str, bytes]]:
    """The parts of a PEM file: (type, content). What is no part is passed over."""
    for match in _BLOCK.finditer(pem):
        try:
            body = base64.b64decode(b"".join(_HEADER.sub(b"", match[2]).split()), validate=True)
        except ValueError:
            continue
        yield match[1].decode("utf-8", "replace"), body


def _pair(certificate: bytes, key: bytes) -> str:
    """Why the two are no pair, or ""."""
    found = list(_blocks(certificate))
    certificates = [body for kind, body in found if kind == "CERTIFICATE"]
    if not certificates:
        return _no_certificate([kind for kind, _ in found])
    skipped: list[str] = []
    for kind, body in _blocks(key):
        if kind == "PRIVATE KEY" or kind.endswith(" PRIVATE KEY"):
            return _mismatch(certificates[0], body)
        skipped.append(kind)
    return _no_key(skipped)


def _no_certificate(skipped: list[str]) -> str:
    if not skipped:
        return "tls: failed to find any PEM data in certificate input"
    if len(skipped) == 1 and skipped[0].endswith("PRIVATE KEY"):
        return (
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs "
            "may have been switched"
        )
    return (
        'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the following '
        f"types: [{' '.join(skipped)}]"
    )


def _no_key(skipped: list[str]) -> str:
    if not skipped:
        return "tls: failed to find any PEM data in key input"
    if skipped == ["CERTIFICATE"]:
        return "tls: found a certificate rather than a key in the PEM for the private key"
    return (
        'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after skipping PEM blocks of '
        f"the following types: [{' '.join(skipped)}]"
    )


def _mismatch(certificate: bytes, key: bytes) -> str:
    try:
        public: Any = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "x509: malformed certificate"
    try:
        private: Any = load_der_private_key(key, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls: failed to parse private key"
    kinds: dict[Any, Any] = {
        rsa.RSAPublicKey: rsa.RSAPrivateKey,
        ec.EllipticCurvePublicKey: ec.EllipticCurvePrivateKey,
        ed25519.Ed25519PublicKey: ed25519.Ed25519PrivateKey,
    }
    expected = next((of_private for of_public, of_private in kinds.items() if isinstance(public, of_public)), None)
    if expected is None:
        return "tls: unknown public key algorithm"
    if not isinstance(private, expected):
        return "tls: private key type does not match public key type"
    return "" if private.public_key() == public else "tls: private key does not match public key"
