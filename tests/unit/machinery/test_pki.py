"""Keys and certificates: what is made can be verified, read back, and refuses to be misused."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from machinery import pki

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> pki.KeyPair:
    return pki.make_authority("kubernetes", algorithm="ECDSA-P256", now=NOW)


def test_an_issued_certificate_carries_subject_names_and_usages(authority: pki.KeyPair) -> None:
    pair = pki.issue(
        authority,
        "kube-apiserver",
        usages=pki.SERVER_USAGES,
        organizations=["system:masters"],
        names=["kubernetes", "10.96.0.1", "kubernetes", "fd00::1"],
        algorithm="ECDSA-P256",
        now=NOW,
    )
    pki.verify_issued_by(pair.certificate, authority.certificate)
    assert pki.common_name(pair.certificate) == "kube-apiserver"
    assert pki.organizations(pair.certificate) == ["system:masters"]
    assert pki.alternative_names(pair.certificate) == ["kubernetes", "10.96.0.1", "fd00::1"]
    usages = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not pair.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert pki.remaining(pair.certificate, NOW) == timedelta(days=365)


def test_another_authority_did_not_issue_it(authority: pki.KeyPair) -> None:
    other = pki.make_authority("kubernetes", algorithm="ECDSA-P256", now=NOW)
    pair = pki.issue(other, "x", usages=pki.CLIENT_USAGES, algorithm="ECDSA-P256", now=NOW)
    with pytest.raises(pki.PKIError, match='"x" was not issued by "kubernetes"'):
        pki.verify_issued_by(pair.certificate, authority.certificate)


def test_a_certificate_never_outlives_its_authority(authority: pki.KeyPair) -> None:
    late = NOW + pki.AUTHORITY_LIFETIME - timedelta(days=1)
    pair = pki.issue(authority, "x", usages=pki.CLIENT_USAGES, algorithm="ECDSA-P256", now=late)
    assert pki.remaining(pair.certificate, late) == timedelta(days=1)
    with pytest.raises(pki.PKIError, match="has expired"):
        pki.issue(authority, "x", usages=(), algorithm="ECDSA-P256", now=late + timedelta(days=1))


def test_renewal_is_due_after_most_of_the_lifetime(authority: pki.KeyPair) -> None:
    certificate = pki.issue(authority, "x", usages=(), algorithm="ECDSA-P256", now=NOW).certificate
    assert not pki.needs_renewal(certificate, NOW)
    assert pki.needs_renewal(certificate, NOW + timedelta(days=300))
    assert pki.needs_renewal(certificate, NOW - timedelta(days=1))


def test_a_reissued_certificate_is_the_old_one_with_a_new_key(authority: pki.KeyPair) -> None:
    old = pki.issue(
        authority, "cp1", usages=pki.PEER_USAGES, names=["cp1", "::1"], algorithm="ECDSA-P256", now=NOW
    ).certificate
    later = NOW + timedelta(days=300)
    new = pki.reissue(authority, old, algorithm="ECDSA-P256", now=later).certificate
    assert new.subject == old.subject
    assert pki.alternative_names(new) == ["cp1", "::1"]
    assert sorted(pki.usages(new)) == sorted(pki.PEER_USAGES)
    assert new.public_key() != old.public_key()
    assert pki.remaining(new, later) == timedelta(days=365)


def test_a_request_is_signed_as_asked(authority: pki.KeyPair) -> None:
    key = pki.new_key("ECDSA-P256")
    pem = pki.make_request(key, "system:node:w1", organizations=["system:nodes"], names=["w1", "10.0.0.4"])
    request = pki.load_request(pem)
    assert pki.alternative_names(request) == ["w1", "10.0.0.4"]
    certificate = pki.sign_request(
        authority, request, usages=["digital signature", "client auth"], lifetime=timedelta(hours=1), now=NOW
    )
    pki.verify_issued_by(certificate, authority.certificate)
    assert (pki.common_name(certificate), pki.organizations(certificate)) == ("system:node:w1", ["system:nodes"])
    assert pki.alternative_names(certificate) == ["w1", "10.0.0.4"]
    assert pki.remaining(certificate, NOW) == timedelta(hours=1)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_encipherment


def test_bad_requests_are_refused(authority: pki.KeyPair) -> None:
    with pytest.raises(pki.PKIError, match="not a certificate signing request"):
        pki.load_request(b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    request = pki.load_request(pki.make_request(pki.new_key("ECDSA-P256"), "x"))
    with pytest.raises(pki.PKIError, match="unknown key usage: flying"):
        pki.sign_request(authority, request, usages=["flying"], now=NOW)
    with pytest.raises(pki.PKIError, match="unknown key algorithm 'DSA'"):
        pki.new_key("DSA")


def test_pairs_are_kept_in_files_only_their_owner_reads(authority: pki.KeyPair, tmp_path: Path) -> None:
    certificate_path, key_path = tmp_path / "pki" / "ca.crt", tmp_path / "pki" / "ca.key"
    pki.write_pair(authority, certificate_path, key_path)
    assert key_path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in key_path.parent.iterdir()) == ["ca.crt", "ca.key"]
    assert pki.read_pair(certificate_path, key_path).certificate == authority.certificate

    other = tmp_path / "other.key"
    pki.write_file(other, pki.key_pem(pki.new_key("ECDSA-P256")))
    with pytest.raises(pki.PKIError, match="do not belong together"):
        pki.read_pair(certificate_path, other)
    with pytest.raises(pki.PKIError, match="No such file"):
        pki.read_key(tmp_path / "none.key")
    other.write_text("rubbish")
    with pytest.raises(pki.PKIError, match=r"other\.key: not a private key"):
        pki.read_key(other)


@pytest.mark.parametrize("algorithm", ["RSA-2048", "ECDSA-P256"])
async def test_tls_with_client_certificates_works_and_strangers_are_refused(algorithm: str, tmp_path: Path) -> None:
    """Both ends verify each other by these certificates, with OpenSSL's strict checks on."""
    authority = pki.make_authority("kubernetes", algorithm=algorithm)
    stranger = pki.make_authority("kubernetes", algorithm=algorithm)
    ca = tmp_path / "ca.crt"
    pki.write_file(ca, authority.certificate_pem)

    def context(protocol: int, pair: pki.KeyPair) -> ssl.SSLContext:
        pki.write_pair(pair, tmp_path / "x.crt", tmp_path / "x.key")
        made = ssl.SSLContext(protocol)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        made.load_cert_chain(tmp_path / "x.crt", tmp_path / "x.key")
        made.load_verify_locations(ca)
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    served = pki.issue(authority, "server", usages=pki.SERVER_USAGES, names=["127.0.0.1"], algorithm=algorithm)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context(ssl.PROTOCOL_TLS_SERVER, served))
    port = server.sockets[0].getsockname()[1]
    async with server:
        for signer, welcome in ((authority, True), (stranger, False)):
            client = pki.issue(signer, "admin", usages=pki.CLIENT_USAGES, algorithm=algorithm)
            answer = b""
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context(ssl.PROTOCOL_TLS_CLIENT, client)
                )
                writer.write(b"hello\n")
                answer = await reader.readline()
                writer.close()
            except (ssl.SSLError, ConnectionError):
                assert not welcome
            assert (answer == b"hello\n") is welcome


def test_a_self_signed_server_certificate_names_its_host() -> None:
    pair = pki.self_signed_server("w1", ["127.0.0.1"], now=NOW)
    assert pki.alternative_names(pair.certificate) == ["w1", "127.0.0.1"]
    assert not pki.needs_renewal(pair.certificate, NOW)
