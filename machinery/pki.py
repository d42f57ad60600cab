"""Keys, certificate authorities, certificates and signing requests.

A `KeyPair` is a certificate with its private key; an authority is a KeyPair whose certificate may sign others.  Usages
are spelled as in the certificates API ("server auth", "client auth", "digital signature", …).  Private keys are written
with mode 0600, in one step, so that no reader ever sees half a file.

Source: RFC 5280; certificates.k8s.io/v1 KeyUsage; kubeadm's pkiutil.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from machinery.errors import NavarchError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

AUTHORITY_LIFETIME = timedelta(days=3650)
"""How long a certificate authority is valid: ten years, as kubeadm's."""

LIFETIME = timedelta(days=365)
"""How long an issued certificate is valid unless said otherwise: a year, as kubeadm's."""

BACKDATE = timedelta(minutes=5)
"""How far notBefore lies in the past, so that a peer whose clock is behind accepts a new certificate."""

SERVER_USAGES = ("digital signature", "key encipherment", "server auth")
CLIENT_USAGES = ("digital signature", "key encipherment", "client auth")
PEER_USAGES = ("digital signature", "key encipherment", "server auth", "client auth")

ALGORITHMS = ("RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384")
"""Names of key algorithms, as in kubeadm's ClusterConfiguration.encryptionAlgorithm."""

_EXTENDED: dict[str, ObjectIdentifier] = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}
_BASIC: dict[str, str] = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "data encipherment": "data_encipherment",
    "key agreement": "key_agreement",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}


class PKIError(NavarchError):
    """A key, certificate or request is missing, unreadable, or does not fit."""


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


# --- keys -------------------------------------------------------------------------------------------------------------


def new_key(algorithm: str = "RSA-2048") -> PrivateKey:
    """A new private key; `algorithm` is one of ALGORITHMS. Raises PKIError."""
    match algorithm:
        case "RSA-2048" | "RSA-3072" | "RSA-4096":
            return rsa.generate_private_key(public_exponent=65537, key_size=int(algorithm[4:]))
        case "ECDSA-P256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ECDSA-P384":
            return ec.generate_private_key(ec.SECP384R1())
    raise PKIError(f"unknown key algorithm {algorithm!r}: choose one of {', '.join(ALGORITHMS)}")


def key_pem(key: PrivateKey) -> bytes:
    """The private key in the PEM form Go's tools write: PKCS#1 for RSA, SEC 1 for elliptic curves, else PKCS#8."""
    traditional = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    form = serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_key_pem(key: PublicKey) -> bytes:
    """The public key in PEM (PKIX), the form of sa.pub."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_key(pem: bytes) -> PrivateKey:
    """The private key in `pem`. Raises PKIError."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise PKIError(f"not a private key in PEM: {exc}") from exc
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise PKIError(f"unsupported kind of private key: {type(key).__name__}")
    return key


# --- certificates -----------------------------------------------------------------------------------------------------


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
    name = _name(common_name, ())
    builder = _builder(name, name, key.public_key(), lifetime, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(("digital signature", "key encipherment", "cert sign")), critical=True)
    # kubeadm's authorities carry their own name as a DNS name; Go's verifier then accepts name constraints on it.
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return KeyPair(builder.sign(key, _digest(key)), key)


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
    certificate = _sign(
        authority, _name(common_name, organizations), key.public_key(), _alternatives(names), usages, lifetime, now
    )
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
    return KeyPair(_sign(authority, old.subject, key.public_key(), alternatives, usages(old), lifetime, now), key)


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """The usages of a certificate, in the certificates API's words."""
    found: list[str] = []
    try:
        basic = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        found += [name for name, field in _BASIC.items() if name != "signing" and _allows(basic, field)]
    except x509.ExtensionNotFound:
        pass
    try:
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        found += [name for name, oid in _EXTENDED.items() if name != "s/mime" and oid in extended]
    except x509.ExtensionNotFound:
        pass
    return tuple(found)


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


# --- signing requests -------------------------------------------------------------------------------------------------


def make_request(
    key: PrivateKey, common_name: str, *, organizations: Iterable[str] = (), names: Iterable[str] = ()
) -> bytes:
    """A certificate signing request in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name, organizations))
    if alternatives := _alternatives(names):
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, _digest(key)).public_bytes(serialization.Encoding.PEM)


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
    return _sign(authority, request.subject, key, list(wanted), usages, lifetime, now)


# --- files ------------------------------------------------------------------------------------------------------------


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` in one step with `mode`, making missing directories (0700 for private data)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode & 0o077 == 0 else 0o755)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_pair(pair: KeyPair, certificate_path: Path, key_path: Path) -> None:
    """Write key (0600) and certificate (0644); the key first, so that a certificate is never without its key."""
    write_file(key_path, pair.key_pem)
    write_file(certificate_path, pair.certificate_pem, mode=0o644)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file. Raises PKIError naming the file."""
    try:
        return load_certificates(path.read_bytes())
    except (OSError, PKIError) as exc:
        raise PKIError(f"{path}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc


def read_key(path: Path) -> PrivateKey:
    """The private key in a file. Raises PKIError naming the file."""
    try:
        return load_key(path.read_bytes())
    except (OSError, PKIError) as exc:
        raise PKIError(f"{path}: {exc.strerror if isinstance(exc, OSError) else exc}") from exc


def read_pair(certificate_path: Path, key_path: Path) -> KeyPair:
    """A certificate and its key from files; checks that they belong together. Raises PKIError naming the files."""
    certificate, key = read_certificates(certificate_path)[0], read_key(key_path)
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise PKIError(f"{certificate_path}: unsupported kind of public key: {type(public).__name__}")
    if public_key_pem(public) != public_key_pem(key.public_key()):
        raise PKIError(f"{certificate_path} and {key_path} do not belong together")
    return KeyPair(certificate, key)


# --- parts ------------------------------------------------------------------------------------------------------------


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(common_name: str, organizations: Iterable[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[str, x509.GeneralName] = {}
    for name in names:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            found[name] = x509.DNSName(name)
        else:
            found[str(address)] = x509.IPAddress(address)
    return list(found.values())


def _allows(usage: x509.KeyUsage, field: str) -> bool:
    if field in ("encipher_only", "decipher_only") and not usage.key_agreement:
        return False  # has no meaning then, and asking raises
    return bool(getattr(usage, field))


def _key_usage(usages: Iterable[str]) -> x509.KeyUsage:
    wanted = {_BASIC[usage] for usage in usages if usage in _BASIC}
    return x509.KeyUsage(**{field: field in wanted for field in set(_BASIC.values())})


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


def _sign(
    authority: KeyPair,
    subject: x509.Name,
    key: PublicKey,
    alternatives: list[x509.GeneralName],
    usages: Iterable[str],
    lifetime: timedelta,
    now: datetime | None,
) -> x509.Certificate:
    usages = tuple(usages)
    if unknown := sorted(set(usages) - _EXTENDED.keys() - _BASIC.keys()):
        raise PKIError(f"unknown key usage: {', '.join(unknown)}")
    moment = now or datetime.now(UTC)
    left = remaining(authority.certificate, moment)
    if left <= timedelta(0):
        raise PKIError(f'certificate authority "{common_name(authority.certificate)}" has expired')
    builder = _builder(authority.certificate.subject, subject, key, min(lifetime, left), moment)
    builder = builder.add_extension(_key_usage(usages), critical=True)
    if extended := list(dict.fromkeys(_EXTENDED[usage] for usage in usages if usage in _EXTENDED)):
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_authority_identifier(authority), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority.key, _digest(authority.key))


def _authority_identifier(authority: KeyPair) -> x509.AuthorityKeyIdentifier:
    try:
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
