"""Which certificate a client is shown, and which groups are served: --tls-sni-cert-key, --runtime-config."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest

from controlplane.apiserver.flags import parse
from controlplane.apiserver.resources import built_in
from controlplane.apiserver.runtimeconfig import disabled
from controlplane.apiserver.servingcertificates import Pair, ServingCertificates
from machinery import pki
from machinery.errors import SettingsError

AUTHORITY = pki.make_authority("ca", algorithm="ECDSA-P256")


def write(folder: Path, name: str, *names: str) -> tuple[str, str]:
    """Make a pair of files."""
    pair = pki.issue(AUTHORITY, name, usages=pki.SERVER_USAGES, names=names, algorithm="ECDSA-P256")
    pki.write_pair(pair, folder / f"{name}.crt", folder / f"{name}.key")
    return str(folder / f"{name}.crt"), str(folder / f"{name}.key")


def context(pair: Pair) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pair.certificate, pair.key)
    return made


async def shown(server: asyncio.Server, name: str) -> str:
    """The common name of the certificate that a client is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    await reader.read()
    [certificate] = pki.load_certificates(ssl.DER_cert_to_PEM_cert(der).encode())
    return pki.common_name(certificate)


async def test_a_client_is_shown_the_certificate_of_the_name_it_asks_for(tmp_path: Path) -> None:
    certificates = ServingCertificates(
        [
            Pair(*write(tmp_path, "first", "api.example.org")),
            Pair(*write(tmp_path, "second", "other.example.org", "*.apps.example.org")),
            Pair(*write(tmp_path, "third", "hidden.example.org"), names=("named.example.org",)),
        ],
        context,
    )

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=certificates.context) as server:
        for name, expected in (
            ("api.example.org", "first"),
            ("nobody", "first"),
            ("OTHER.example.org", "second"),
            ("a.apps.example.org", "second"),
            ("a.b.apps.example.org", "first"),
            ("named.example.org", "third"),
            ("hidden.example.org", "first"),
        ):
            assert await shown(server, name) == expected, name
        new = pki.issue(AUTHORITY, "renewed", usages=pki.SERVER_USAGES, names=("x",), algorithm="ECDSA-P256")
        pki.write_pair(new, tmp_path / "first.crt", tmp_path / "first.key")
        certificates.refresh()
        assert await shown(server, "api.example.org") == "renewed"
        (tmp_path / "first.crt").write_text("broken")
        os.utime(tmp_path / "first.crt", ns=(1, 1))
        certificates.refresh()
        assert await shown(server, "api.example.org") == "renewed"


def test_the_flag_names_files_and_patterns() -> None:
    flags = ["--etcd-servers=http://e", "--tls-sni-cert-key=a.crt,a.key", "--tls-sni-cert-key=b.crt,b.key:*.b,c"]
    assert parse(flags).tls_sni_cert_key == (("a.crt", "a.key", ()), ("b.crt", "b.key", ("*.b", "c")))
    with pytest.raises(SettingsError, match="expected comma separated"):
        parse(["--etcd-servers=http://e", "--tls-sni-cert-key=a.crt"])


def test_versions_can_be_turned_off() -> None:
    resources = built_in(disabled([("batch/v1", "false"), ("autoscaling/v1", "false")]))
    assert resources.find("batch", "v1", "jobs") is None
    assert resources.find("autoscaling", "v1", "horizontalpodautoscalers") is None
    assert resources.find("autoscaling", "v2", "horizontalpodautoscalers") is not None
    assert "batch" not in resources.group_versions()
    assert all(served.type.group != "batch" for served in resources.all())
    everything_but = disabled([("api/all", "false"), ("apps/v1", "true")])
    assert ("apps", "v1") not in everything_but
    assert ("batch", "v1") in everything_but
    assert ("", "v1") not in everything_but
    assert disabled([("api/all", "true"), ("resource.k8s.io/v1beta1", "true")]) == frozenset()


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("v1=false", "v1 can't be turned off"),
        ("nothing/v1=true", "unknown api groups nothing"),
        ("pods", "is not group/version"),
    ],
)
def test_what_makes_no_sense_is_told(flag: str, told: str) -> None:
    settings = parse(["--etcd-servers=http://e", f"--runtime-config={flag}"])
    with pytest.raises(SettingsError, match=told):
        disabled(settings.runtime_config)
    with pytest.raises(SettingsError, match="true or false"):
        parse(["--etcd-servers=http://e", "--runtime-config=batch/v1=perhaps"])
