"""Client certificates: whether an authority vouches for the one shown, and whose it is.

TLS takes any certificate (tls.py); each is verified here, once for each authority that is asked about it.

Source: k8s.io/apiserver/pkg/authentication/request/x509.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.apiserver.authn.identity import CREDENTIAL_ID
from controlplane.apiserver.request import Credentials, User
from machinery.errors import SettingsError, Unauthorized

_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
_REMEMBERED = 4096
_LONGEST_CHAIN = 6


def load_authorities(path: str, flag: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM bundle. Raises SettingsError naming the flag."""
    try:
        return tuple(x509.load_pem_x509_certificates(Path(path).read_bytes()))
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{flag}: can't read certificates from {path}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Peer:
    """A client's certificate, read and vouched for."""

    certificate: x509.Certificate
    fingerprint: str  # hex SHA-256
    not_before: datetime
    not_after: datetime


class Peers:
    """Verifies the certificates that clients show against some authorities, remembering whom they vouch for."""

    def __init__(
        self, authorities: Sequence[x509.Certificate], now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._authorities = tuple(authorities)
        self._now = now
        self._known: dict[bytes, Peer] = {}

    def issued(self, shown: Sequence[bytes]) -> Peer:
        """The peer whose certificate comes first in `shown` (DER); intermediate ones may follow.

        Raises:
            Unauthorized: no authority vouches for it, it is not for clients, or not in force now.
        """
        peer = self._known.get(shown[0])
        if peer is None:
            peer = self._verified(shown)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[shown[0]] = peer
        if not peer.not_before <= self._now() <= peer.not_after:
            raise Unauthorized("x509: certificate has expired or is not yet valid")
        return peer

    def _verified(self, shown: Sequence[bytes]) -> Peer:
        try:
            own, *between = [x509.load_der_x509_certificate(der) for der in shown[:_LONGEST_CHAIN]]
            vouched = _for_clients(own) and self._vouched(own, between)
        except ValueError as exc:
            raise Unauthorized(f"x509: malformed certificate: {exc}") from exc
        if not vouched:
            raise Unauthorized("x509: certificate signed by unknown authority")
        digest = hashlib.sha256(shown[0]).hexdigest()
        return Peer(own, digest, own.not_valid_before_utc, own.not_valid_after_utc)

    def _vouched(self, certificate: x509.Certificate, between: Sequence[x509.Certificate], below: int = 0) -> bool:
        """Whether a way leads from the certificate to an authority; `below`: how many intermediates are behind it."""
        if any(certificate == a or (_issued(certificate, a) and self._in_force(a)) for a in self._authorities):
            return True
        for index, issuer in enumerate(between):
            if self._in_force(issuer) and _may_issue(issuer, below) and _issued(certificate, issuer):
                others = [*between[:index], *between[index + 1 :]]
                if self._vouched(issuer, others, below + 1):
                    return True
        return False

    def _in_force(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_before_utc <= self._now() <= certificate.not_valid_after_utc


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(certificate: x509.Certificate, below: int) -> bool:
    """Whether an intermediate certificate may stand above `below` others."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    allowed = constraints.path_length
    return constraints.ca and (allowed is None or below <= allowed) and _for_clients(certificate)


def _for_clients(certificate: x509.Certificate) -> bool:
    """Whether its extended key usage, if it has one, allows client authentication."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


class ClientCertificates:
    """The user that a client certificate names: CN, and the groups O."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._users: dict[str, User | None] = {}

    async def authenticate(self, credentials: Credentials) -> User | None:
        """The user, or None without a certificate. Raises Unauthorized."""
        if not credentials.peer_certificates:
            return None
        peer = self._peers.issued(credentials.peer_certificates)
        if peer.fingerprint not in self._users:
            if len(self._users) >= _REMEMBERED:
                self._users.clear()
            self._users[peer.fingerprint] = user_of(peer)
        return self._users[peer.fingerprint]


def user_of(peer: Peer) -> User | None:
    """The user a certificate names; None if it has no common name. Raises Unauthorized."""
    names = common_names(peer.certificate)
    if not names or not names[-1]:
        return None
    subject = peer.certificate.subject
    groups = tuple(_text(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    uids = [_text(a.value) for a in subject.get_attributes_for_oid(_UID)]
    if len(uids) > 1:
        raise Unauthorized(f"expected 1 UID, but found multiple: {uids}")
    if uids and not uids[0]:
        raise Unauthorized("UID cannot be an empty string")
    extra: dict[str, tuple[str, ...]] = {CREDENTIAL_ID: (f"X509SHA256={peer.fingerprint}",)}
    return User(names[-1], uids[0] if uids else "", groups, extra)


def common_names(certificate: x509.Certificate) -> list[str]:
    """The common names of the subject, in their order; Go takes the last."""
    return [_text(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
