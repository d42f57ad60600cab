"""Certificate signing requests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from machinery.pki.certificates import LIFETIME, KeyPair, general_names, signed, subject_name
from machinery.pki.keys import PKIError, PrivateKey, digest


def make_request(
    key: PrivateKey, common_name: str, *, organizations: Iterable[str] = (), names: Iterable[str] = ()
) -> bytes:
    """A certificate signing request in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject_name(common_name, organizations))
    if alternatives := general_names(names):
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, digest(key)).public_bytes(serialization.Encoding.PEM)


def load_request(pem: bytes) -> x509.CertificateSigningRequest:
    """The signing request in `pem`, its signature checked. Raises PKIError."""
    try:
        request = x509.load_pem_x509_csr(pem)
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise PKIError(f"not a certificate signing request in PEM: {exc}") from exc
    if not valid:
        raise PKIError("the certificate signing request's signature is not valid")
    return request


def sign_request(
    authority: KeyPair,
    request: x509.CertificateSigningRequest,
    *,
    usages: Iterable[str],
    lifetime: timedelta = LIFETIME,
    now: datetime | None = None,
) -> x509.Certificate:
    """A certificate with the request's subject, key and alternative names, never outliving the authority's own."""
    key = request.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise PKIError(f"unsupported kind of public key: {type(key).__name__}")
    try:
        wanted = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        wanted = x509.SubjectAlternativeName([])
    return signed(authority, request.subject, key, list(wanted), usages, lifetime, now)
