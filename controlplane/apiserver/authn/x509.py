"""Client certificates: who a certificate that TLS has verified belongs to.

TLS verifies a peer against the client CA and the front proxy's together; which of the two a certificate is from is
found out here, once for each certificate.

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
from cryptography.x509.oid import NameOID

from controlplane.apiserver.authn.identity import CREDENTIAL_ID
from controlplane.apiserver.request import Credentials, User
from machinery.errors import SettingsError, Unauthorized

_UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
_REMEMBERED = 4096


def load_authorities(path: str, flag: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM bundle. Raises SettingsError naming the flag."""
    try:
        return tuple(x509.load_pem_x509_certificates(Path(path).read_bytes()))
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{flag}: can't read certificates from {path}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Peer:
    """A client's certificate, read once."""

    certificate: x509.Certificate
    fingerprint: str  # hex SHA-256
    not_before: datetime
    not_after: datetime


class Peers:
    """Tells which of several authorities issued the certificates of peers, remembering what it has seen."""

    def __init__(
        self,
        authorities: Sequence[x509.Certificate],
        others: Sequence[x509.Certificate] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`authorities` are those asked about, `others` those that TLS trusts besides."""
        self._authorities = tuple(authorities)
        self._others = tuple(others)
        self._now = now
        self._seen: dict[bytes, Peer | None] = {}

    def issued(self, der: bytes) -> Peer | None:
        """The peer if one of the authorities vouches for it. Raises Unauthorized if it is not in force."""
        if der not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[der] = self._read(der)
        peer = self._seen[der]
        if peer is not None and not peer.not_before <= self._now() <= peer.not_after:
            raise Unauthorized("x509: certificate has expired or is not yet valid")
        return peer

    def _read(self, der: bytes) -> Peer | None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            peer = Peer(
                certificate,
                hashlib.sha256(der).hexdigest(),
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
            )
        except ValueError:
            return None
        if any(_issued(certificate, authority) for authority in self._authorities):
            return peer
        # TLS vouched for it through an intermediate certificate, which only the connection saw: it is one of ours
        # unless there are others it could be from.
        return peer if not set(self._others) - set(self._authorities) else None


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return certificate == authority
    return True


class ClientCertificates:
    """The user that a client certificate names: CN, and the groups O."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._users: dict[str, User | None] = {}

    async def authenticate(self, credentials: Credentials) -> User | None:
        """The user, or None without a certificate of the client CA. Raises Unauthorized."""
        if credentials.peer_certificate is None:
            return None
        peer = self._peers.issued(credentials.peer_certificate)
        if peer is None:
            return None
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
