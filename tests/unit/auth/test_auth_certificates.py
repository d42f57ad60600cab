"""Client certificates and front proxies: whom a verified certificate belongs to, and which authority vouches for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from multidict import CIMultiDict

from controlplane.apiserver.authn.requestheader import FrontProxy
from controlplane.apiserver.authn.x509 import ClientCertificates, Peers, load_authorities
from controlplane.apiserver.request import Credentials, User
from machinery.errors import SettingsError, Unauthorized

NOW = datetime(2030, 6, 1, tzinfo=UTC)
UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")


class Authority:
    """Issues certificates."""

    def __init__(
        self, name: str, issuer: Authority | None = None, *, extension: x509.ExtensionType | None = None
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        until = NOW + timedelta(days=365)
        self.certificate = (issuer or self)._sign(self.name, self.key.public_key(), until, extension)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        until: datetime,
        extension: x509.ExtensionType | None = None,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(until)
        )
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *attributes: tuple[x509.ObjectIdentifier, str], days: int = 30) -> bytes:
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        certificate = self._sign(subject, key, NOW + timedelta(days=days))
        return der(certificate)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


CLIENTS, PROXIES = Authority("kubernetes"), Authority("front-proxy-ca")
JANE = CLIENTS.issue(
    (NameOID.ORGANIZATION_NAME, "dev"), (NameOID.ORGANIZATION_NAME, "ops"), (NameOID.COMMON_NAME, "jane")
)
PROXY = PROXIES.issue((NameOID.COMMON_NAME, "front-proxy-client"))


def peers(ours: Authority, now: datetime = NOW) -> Peers:
    return Peers([ours.certificate], lambda: now)


def offer(certificate: bytes | None, *headers: tuple[str, str], intermediates: tuple[bytes, ...] = ()) -> Credentials:
    return Credentials((certificate, *intermediates) if certificate else (), CIMultiDict(headers))


async def test_common_name_and_organizations_make_the_user() -> None:
    user = await ClientCertificates(peers(CLIENTS)).authenticate(offer(JANE))
    assert user is not None
    assert (user.name, user.uid, user.groups) == ("jane", "", ("dev", "ops"))
    (credential,) = user.extra["authentication.kubernetes.io/credential-id"]
    assert credential.startswith("X509SHA256=")
    assert len(credential) == len("X509SHA256=") + 64


async def test_a_uid_can_be_in_the_subject() -> None:
    clients = ClientCertificates(peers(CLIENTS))
    user = await clients.authenticate(offer(CLIENTS.issue((NameOID.COMMON_NAME, "a"), (UID, "u-1"))))
    assert user is not None
    assert user.uid == "u-1"
    with pytest.raises(Unauthorized, match="expected 1 UID"):
        await clients.authenticate(offer(CLIENTS.issue((NameOID.COMMON_NAME, "a"), (UID, "u-1"), (UID, "u-2"))))


async def test_no_certificate_no_name_no_user() -> None:
    clients = ClientCertificates(peers(CLIENTS))
    assert await clients.authenticate(offer(None)) is None
    assert await clients.authenticate(offer(CLIENTS.issue((NameOID.ORGANIZATION_NAME, "system:masters")))) is None
    with pytest.raises(Unauthorized, match="malformed"):
        await clients.authenticate(offer(b"not a certificate"))


async def test_another_authority_makes_no_users() -> None:
    """TLS takes any certificate: one of the front proxy's authority, say, must not pass for a client's."""
    masters = PROXIES.issue((NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, "jane"))
    with pytest.raises(Unauthorized, match="unknown authority"):
        await ClientCertificates(peers(CLIENTS)).authenticate(offer(masters))
    twin = Authority("kubernetes").issue((NameOID.COMMON_NAME, "jane"))
    with pytest.raises(Unauthorized, match="unknown authority"):
        await ClientCertificates(peers(CLIENTS)).authenticate(offer(twin))


async def test_an_intermediate_authority_that_is_shown_vouches_too() -> None:
    department = Authority("department", CLIENTS, extension=x509.BasicConstraints(ca=True, path_length=0))
    joe, between = department.issue((NameOID.COMMON_NAME, "joe")), (der(department.certificate),)
    clients = ClientCertificates(peers(CLIENTS))
    with pytest.raises(Unauthorized, match="unknown authority"):
        await clients.authenticate(offer(joe))
    user = await clients.authenticate(offer(joe, intermediates=between))
    assert user is not None
    assert user.name == "joe"
    with pytest.raises(Unauthorized, match="unknown authority"):
        await ClientCertificates(peers(PROXIES)).authenticate(offer(joe, intermediates=between))


async def test_a_users_certificate_is_no_authority() -> None:
    jane = Authority("jane", CLIENTS)
    forged = jane.issue((NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, "root"))
    with pytest.raises(Unauthorized, match="unknown authority"):
        await ClientCertificates(peers(CLIENTS)).authenticate(offer(forged, intermediates=(der(jane.certificate),)))
    deep = Authority("a", CLIENTS, extension=x509.BasicConstraints(ca=True, path_length=0))
    deeper = Authority("b", deep, extension=x509.BasicConstraints(ca=True, path_length=0))
    shown = (der(deeper.certificate), der(deep.certificate))
    with pytest.raises(Unauthorized, match="unknown authority"):
        await ClientCertificates(peers(CLIENTS)).authenticate(
            offer(deeper.issue((NameOID.COMMON_NAME, "x")), intermediates=shown)
        )


async def test_a_servers_certificate_is_none_for_clients() -> None:
    server = Authority("web", CLIENTS, extension=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    with pytest.raises(Unauthorized, match="unknown authority"):
        await ClientCertificates(peers(CLIENTS)).authenticate(offer(der(server.certificate)))


async def test_a_connection_outlives_its_certificate_but_not_its_right() -> None:
    late = peers(CLIENTS, now=NOW + timedelta(days=31))
    with pytest.raises(Unauthorized, match="expired"):
        await ClientCertificates(late).authenticate(offer(JANE))


def proxy(*allowed: str) -> FrontProxy:
    return FrontProxy(
        peers(PROXIES),
        allowed_names=allowed,
        username_headers=("X-Remote-User",),
        uid_headers=("X-Remote-Uid",),
        group_headers=("X-Remote-Group",),
        extra_prefixes=("X-Remote-Extra-",),
    )


async def test_a_front_proxy_names_the_user() -> None:
    headers = [
        ("X-Remote-User", "joe"),
        ("X-Remote-Uid", "u"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-Acme.com%2FScopes", "x"),
        ("X-Remote-Extra-Acme.com%2FScopes", "y"),
    ]
    user = await proxy("front-proxy-client").authenticate(offer(PROXY, *headers))
    assert user == User("joe", "u", ("a", "b"), {"acme.com/scopes": ("x", "y")})


async def test_headers_alone_prove_nothing() -> None:
    headers = ("X-Remote-User", "joe"), ("X-Remote-Group", "system:masters")
    assert await proxy().authenticate(offer(None, *headers)) is None
    with pytest.raises(Unauthorized, match="unknown authority"):
        await proxy().authenticate(offer(JANE, *headers))
    assert await proxy().authenticate(offer(PROXY)) is None
    with pytest.raises(Unauthorized, match="not in the allowed list"):
        await proxy("another").authenticate(offer(PROXY, *headers))


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    path.write_text("nothing")
    with pytest.raises(SettingsError, match=r"--client-ca-file: .*ca\.crt"):
        load_authorities(str(path), "--client-ca-file")
    path.write_bytes(CLIENTS.certificate.public_bytes(serialization.Encoding.PEM) * 2)
    assert len(load_authorities(str(path), "--client-ca-file")) == 2
