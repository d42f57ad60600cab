"""Certificates: made, signed, read and looked at.

Source: RFC 5280; kubeadm's pkiutil.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from machinery.pki.keys import PKIError, PrivateKey, PublicKey, digest, key_pem, new_key
from machinery.pki.usages import BASIC, EXTENDED, SERVER_USAGES, key_usage, usages

AUTHORITY_LIFETIME = timedelta(days=3650)
"""How long a certificate authority is valid: ten years, as kubeadm's."""

LIFETIME = timedelta(days=365)
"""How long an issued certificate is valid unless said otherwise: a year, as kubeadm's."""

BACKDATE = timedelta(minutes=5)
"""How far notBefore lies in the past, so that a peer whose clock is behind accepts a new certificate."""


@dataclass(frozen=True)
class KeyPair:
    """A certificate and the private key that belongs to it."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return certificate_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM, unencrypted."""
        return key_pem(self.key)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """Every certificate in `pem`, at least one. Raises PKIError."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise PKIError(f"no certificate in PEM: {exc}") from exc


def make_authority(
    common_name: str,
    *,
    algorithm: str = "RSA-2048",
    lifetime: timedelta = AUTHORITY_LIFETIME,
    now: datetime | None = None,
) -> KeyPair:
    """A new self-signed certificate authority."""
    key = new_key(algorithm)
    name = subject_name(common_name, ())
    builder = _builder(name, name, key.public_key(), lifetime, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(("digital signature", "key encipherment", "cert sign")), critical=True)
    # kubeadm's authorities carry their own name as a DNS name; Go's verifier then accepts name constraints on it.
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return KeyPair(builder.sign(key, digest(key)), key)


def issue(
    authority: KeyPair,
    common_name: str,
    *,
    usages: Iterable[str],
    organizations: Iterable[str] = (),
    names: Iterable[str] = (),
    algorithm: str = "RSA-2048",
    lifetime: timedelta = LIFETIME,
    now: datetime | None = None,
) -> KeyPair:
    """A new key and a certificate for it, signed by `authority`.

    `names` are DNS names and IP addresses, told apart by their looks.
    """
    key = new_key(algorithm)
    subject = subject_name(common_name, organizations)
    certificate = signed(authority, subject, key.public_key(), general_names(names), usages, lifetime, now)
    return KeyPair(certificate, key)


def reissue(
    authority: KeyPair,
    old: x509.Certificate,
    *,
    algorithm: str = "RSA-2048",
    lifetime: timedelta = LIFETIME,
    now: datetime | None = None,
) -> KeyPair:
    """A new key and certificate with the subject, names and usages of an old one."""
    key = new_key(algorithm)
    try:
        alternatives = list(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        alternatives = []
    return KeyPair(signed(authority, old.subject, key.public_key(), alternatives, usages(old), lifetime, now), key)


def self_signed_server(
    common_name: str, names: Iterable[str] = (), *, lifetime: timedelta = LIFETIME, now: datetime | None = None
) -> KeyPair:
    """A serving certificate no authority vouches for: what a component serves with until it is given one.

    Source: client-go util/cert, GenerateSelfSignedCertKey (there, too, an authority made for the occasion signs it).
    """
    authority = make_authority(f"{common_name}-ca@{secrets.randbelow(10**9)}", algorithm="ECDSA-P256", now=now)
    return issue(
        authority,
        common_name,
        usages=SERVER_USAGES,
        names=[common_name, *names],
        algorithm="ECDSA-P256",
        lifetime=lifetime,
        now=now,
    )


def common_name(certificate: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """The subject's common name, or ""."""
    return next((str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), "")


def organizations(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The subject's organizations: a user's groups."""
    return [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def alternative_names(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """DNS names and IP addresses of the certificate or request."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def remaining(certificate: x509.Certificate, now: datetime | None = None) -> timedelta:
    """How long the certificate is still valid; negative when it has expired."""
    return certificate.not_valid_after_utc - (now or datetime.now(UTC))


def needs_renewal(certificate: x509.Certificate, now: datetime | None = None, *, fraction: float = 0.8) -> bool:
    """Whether `fraction` of its lifetime has passed, or it is not valid yet."""
    moment = now or datetime.now(UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return moment < start or moment >= start + (end - start) * fraction


def verify_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    """Check that `authority` signed `certificate`. Raises PKIError."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as exc:
        raise PKIError(
            f'certificate "{common_name(certificate)}" was not issued by "{common_name(authority)}"'
        ) from exc


def subject_name(common_name: str, organizations: Iterable[str]) -> x509.Name:
    """A subject."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """DNS names and IP addresses, told apart by their looks."""
    found: dict[str, x509.GeneralName] = {}
    for name in names:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            found[name] = x509.DNSName(name)
        else:
            found[str(address)] = x509.IPAddress(address)
    return list(found.values())


def _builder(
    issuer: x509.Name, subject: x509.Name, key: PublicKey, lifetime: timedelta, now: datetime | None
) -> x509.CertificateBuilder:
    moment = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATE)
        .not_valid_after(moment + lifetime)
    )


def signed(
    authority: KeyPair,
    subject: x509.Name,
    key: PublicKey,
    alternatives: list[x509.GeneralName],
    usages: Iterable[str],
    lifetime: timedelta,
    now: datetime | None,
) -> x509.Certificate:
    """A certificate by the authority, never outliving its own. Raises PKIError."""
    usages = tuple(usages)
    if unknown := sorted(set(usages) - EXTENDED.keys() - BASIC.keys()):
        raise PKIError(f"unknown key usage: {', '.join(unknown)}")
    moment = now or datetime.now(UTC)
    left = remaining(authority.certificate, moment)
    if left <= timedelta(0):
        raise PKIError(f'certificate authority "{common_name(authority.certificate)}" has expired')
    builder = _builder(authority.certificate.subject, subject, key, min(lifetime, left), moment)
    builder = builder.add_extension(key_usage(usages), critical=True)
    if extended := list(dict.fromkeys(EXTENDED[usage] for usage in usages if usage in EXTENDED)):
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_authority_identifier(authority), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority.key, digest(authority.key))


def _authority_identifier(authority: KeyPair) -> x509.AuthorityKeyIdentifier:
    try:
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
