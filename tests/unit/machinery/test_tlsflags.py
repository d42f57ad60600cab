"""What a server speaks that --tls-min-version and --tls-cipher-suites restrict."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import pytest

from machinery import component, tlsflags
from machinery.errors import SettingsError
from machinery.serving import self_signed_tls
from machinery.settings import FlagSet

RSA = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
ECDSA = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
FLAGS = FlagSet("test", component.SERVING_FLAGS)


def spoken(server: ssl.SSLContext, newest: ssl.TLSVersion) -> tuple[str, str]:
    """(version, suite) that a client of at most this version is answered with. Raises ssl.SSLError."""
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = newest
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    cipher = ends[0].cipher()
    assert cipher is not None
    return str(ends[0].version()), cipher[0]


def serving(*arguments: str) -> ssl.SSLContext:
    return component.serving_tls(FLAGS.parse(arguments))


@pytest.mark.parametrize(
    ("arguments", "suite"),
    [
        ([f"--tls-cipher-suites={ECDSA},{RSA}"], "AES256-GCM-SHA384"),
        ([f"--tls-cipher-suites={ECDSA.replace('256_GCM_SHA384', '128_GCM_SHA256')}"], "AES128-GCM-SHA256"),
        (["--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"], "CHACHA20-POLY1305"),
    ],
)
def test_only_the_suites_that_are_named(arguments: Sequence[str], suite: str) -> None:
    version, name = spoken(serving(*arguments), ssl.TLSVersion.TLSv1_2)
    assert (version, name.partition("-")[2].partition("-")[2]) == ("TLSv1.2", suite)


@pytest.mark.parametrize("argument", ["--tls-min-version=VersionTLS13", "--tls-cipher-suites=TLS_AES_128_GCM_SHA256"])
def test_nobody_older_than_the_least_version(argument: str) -> None:
    with pytest.raises(ssl.SSLError):
        spoken(serving(argument), ssl.TLSVersion.TLSv1_2)
    assert spoken(serving(argument), ssl.TLSVersion.TLSv1_3)[0] == "TLSv1.3"


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--tls-min-version=VersionTLS9", 'unknown tls version "VersionTLS9"'),
        ("--tls-cipher-suites=TLS_NONE", "Cipher suite TLS_NONE not supported or doesn't exist"),
        ("--tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA", "Cipher suite TLS_RSA_WITH_RC4_128_SHA not supported"),
    ],
)
def test_what_is_not_known_is_refused_by_name(argument: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        FLAGS.parse([argument])


def test_without_flags_tls_starts_at_1_2() -> None:
    context = self_signed_tls()
    tlsflags.restrict(context, "", ())
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
