"""A node's certificates, from the bootstrap token to the renewal, against a real API server; the test signs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from kubelet_node import kubeconfig

from agent.kubelet import flags
from agent.kubelet.certificates.bootstrap import bootstrap
from agent.kubelet.certificates.requests import CLIENT_SIGNER, SERVING_SIGNER, CertificateRefused, Wanted, request
from agent.kubelet.certificates.rotation import Rotation, seconds_to_renewal
from agent.kubelet.certificates.store import CertificateStore, Held
from agent.kubelet.flags import Options
from agent.kubelet.server.tls import server_context
from controlplane.apiserver.testing import RunningServer, authority, running_apiserver
from machinery import pki
from machinery.api import meta
from machinery.api.catalogue import CERTIFICATESIGNINGREQUESTS
from machinery.client.config import ClientConfig
from machinery.client.rest import MERGE, Client
from machinery.clock import SystemClock
from machinery.errors import SettingsError


async def _sign(client: Client, *, lifetime: timedelta, deny: bool = False) -> None:
    """What approvers and signers of a cluster do."""
    seen: set[str] = set()
    while True:
        for found in (await client.list(CERTIFICATESIGNINGREQUESTS)).items:
            name = meta.name_of(found)
            if name in seen:
                continue
            seen.add(name)
            kind = "Denied" if deny else "Approved"
            decision = {"type": kind, "status": "True", "reason": "Test", "message": "by the test"}
            body = {**found, "status": {"conditions": [decision]}}
            await client.update(CERTIFICATESIGNINGREQUESTS, body, subresource="approval")
            if deny:
                continue
            asked = pki.load_request(base64.b64decode(found["spec"]["request"]))
            made = pki.sign_request(authority(), asked, usages=found["spec"]["usages"], lifetime=lifetime)
            signed = base64.b64encode(pki.certificate_pem(made)).decode()
            status = {"status": {"certificate": signed}}
            await client.patch(CERTIFICATESIGNINGREQUESTS, name, status, content_type=MERGE, subresource="status")
        await asyncio.sleep(0.05)


@pytest.fixture
async def api() -> AsyncIterator[RunningServer]:
    async with running_apiserver() as server:
        yield server


@pytest.fixture
async def client(api: RunningServer) -> AsyncIterator[Client]:
    async with Client(ClientConfig(api.url, ca_data=api.ca, token=api.token), user_agent="test") as made:
        yield made


@contextlib.asynccontextmanager
async def _signing(
    client: Client, lifetime: timedelta = timedelta(days=1), *, deny: bool = False
) -> AsyncIterator[None]:
    task = asyncio.create_task(_sign(client, lifetime=lifetime, deny=deny))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _options(directory: Path) -> Options:
    return flags.parse(
        [
            f"--kubeconfig={directory}/kubelet.conf",
            f"--bootstrap-kubeconfig={directory}/bootstrap.conf",
            f"--cert-dir={directory}/pki",
            "--hostname-override=n1",
        ]
    )


async def test_a_new_node_gets_its_certificate(api: RunningServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "bootstrap.conf").write_text(kubeconfig(api, api.token))
    options = _options(tmp_path)
    async with _signing(client):
        await bootstrap(options, SystemClock())
    config = ClientConfig.from_kubeconfig(options.kubeconfig)
    assert config.server == api.url
    assert config.client_certificate is not None
    certificate = pki.load_certificates(config.client_certificate)[0]
    assert pki.common_name(certificate) == "system:node:n1"
    assert pki.organizations(certificate) == ["system:nodes"]
    found = (await client.list(CERTIFICATESIGNINGREQUESTS)).items
    assert [c["spec"]["signerName"] for c in found] == [CLIENT_SIGNER]
    current = tmp_path / "pki" / "kubelet-client-current.pem"
    assert current.is_symlink()
    assert current.resolve().stat().st_mode & 0o777 == 0o600
    # With a kubeconfig that works nothing more is asked for.
    await bootstrap(options, SystemClock())
    assert len((await client.list(CERTIFICATESIGNINGREQUESTS)).items) == 1


async def test_a_denied_request_says_why(client: Client) -> None:
    async with _signing(client, deny=True):
        with pytest.raises(CertificateRefused, match="is denied, reason: Test, message: by the test"):
            await request(client, Wanted("n1", CLIENT_SIGNER), SystemClock())


async def test_missing_bootstrap_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--bootstrap-kubeconfig: .*bootstrap.conf does not exist"):
        await bootstrap(_options(tmp_path), SystemClock())


async def test_certificates_are_renewed_and_used_before_they_expire(client: Client, tmp_path: Path) -> None:
    store = CertificateStore(str(tmp_path), "kubelet-server")
    wanted = Wanted("n1", SERVING_SIGNER, ("n1", "10.0.0.1"))
    used: list[Held] = []
    second = asyncio.Event()

    async def use(held: Held) -> None:
        used.append(held)
        if len(used) == 2:
            second.set()

    async with _signing(client, timedelta(seconds=3)):
        task = asyncio.create_task(Rotation(client, store, wanted, SystemClock(), use).run())
        async with asyncio.timeout(20):
            await second.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert used[0].certificate.serial_number != used[1].certificate.serial_number
    assert set(pki.alternative_names(used[1].certificate)) == {"n1", "10.0.0.1"}
    assert seconds_to_renewal(used[1], 0.8) < 3
    held = store.current()
    assert held is not None
    assert held.pem == used[1].pem


def test_serving_waits_for_the_clusters_certificate(tmp_path: Path) -> None:
    options = flags.parse(["--hostname-override=n1", f"--cert-dir={tmp_path}"])
    settings = dataclasses.replace(options.settings, server_tls_bootstrap=True)
    context = server_context(settings, str(tmp_path), "n1", ("10.0.0.1",))
    assert isinstance(context, ssl.SSLContext)
    assert not list(tmp_path.iterdir()), "no certificate of its own is made"
