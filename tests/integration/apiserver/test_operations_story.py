"""One API server as an operator runs it, on real etcd: encrypted, audited, stopped, its key rotated, started again."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from controlplane.apiserver.storage.etcd.storage import EtcdStorage
from machinery import pki
from machinery.testing.etcd import free_ports, running_etcd

ROOT = Path(__file__).resolve().parents[3]
SECRETS = "/api/v1/namespaces/default/secrets"
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]}, {"level": "None"}],
}


def encryption(*keys: str) -> str:
    found = [{"name": key, "secret": base64.b64encode(key.encode()[:1] * 32).decode()} for key in keys]
    entry = {"resources": ["secrets"], "providers": [{"aescbc": {"keys": found}}, {"identity": {}}]}
    return json.dumps(
        {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}
    )


def write_files(folder: Path) -> Sequence[str]:
    """The files of a server; the flags that name them."""
    authority = pki.make_authority("kubernetes", algorithm="ECDSA-P256")
    pair = pki.issue(
        authority, "kube-apiserver", usages=pki.SERVER_USAGES, names=("127.0.0.1",), algorithm="ECDSA-P256"
    )
    pki.write_pair(pair, folder / "server.crt", folder / "server.key")
    (folder / "ca.crt").write_bytes(authority.certificate_pem)
    (folder / "tokens.csv").write_text("admin-token,admin,1,system:masters\n")
    (folder / "policy.yaml").write_text(json.dumps(POLICY))
    (folder / "encryption.yaml").write_text(encryption("old"))
    return (
        f"--tls-cert-file={folder}/server.crt",
        f"--tls-private-key-file={folder}/server.key",
        f"--token-auth-file={folder}/tokens.csv",
        f"--audit-policy-file={folder}/policy.yaml",
        f"--audit-log-path={folder}/audit.log",
        f"--encryption-provider-config={folder}/encryption.yaml",
        "--authorization-mode=Node,RBAC",
        "--bind-address=127.0.0.1",
        "--shutdown-delay-duration=1s",
    )


@asynccontextmanager
async def serving(flags: Sequence[str], folder: Path, port: int) -> AsyncIterator[aiohttp.ClientSession]:
    """The server as a process, ready; stopped by SIGTERM at the end, when it says so before it goes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "controlplane.apiserver", *flags, f"--secure-port={port}"), cwd=ROOT
    )
    tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    connector = aiohttp.TCPConnector(ssl=tls, force_close=True)
    headers = {"Authorization": "Bearer admin-token"}
    try:
        async with aiohttp.ClientSession(f"https://127.0.0.1:{port}", headers=headers, connector=connector) as client:
            await answers(client, 200)
            yield client
            process.send_signal(signal.SIGTERM)
            await answers(client, 500)
            async with asyncio.timeout(30):
                assert (await told(client, "GET", SECRETS))["kind"] == "SecretList"  # served as before
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answers(client: aiohttp.ClientSession, wanted: int) -> None:
    """Wait until /readyz has this status."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with client.get("/readyz") as answer:
                    if answer.status == wanted:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def told(client: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    async with client.request(method, path, json=body) as answer:
        assert answer.status < 300, await answer.text()
        return await answer.json()


async def test_secrets_are_encrypted_rotated_and_audited(tmp_path: Path) -> None:
    flags = write_files(tmp_path)
    (port,) = free_ports(1)
    async with running_etcd() as members:
        etcd = EtcdStorage([members[0].url])
        given = [*flags, f"--etcd-servers={members[0].url}"]

        async def raw() -> bytes:
            stored, _ = await etcd.get("/registry/secrets/default/one")
            assert stored is not None
            return stored.value

        async with serving(given, tmp_path, port) as client:
            await told(client, "POST", SECRETS, {"metadata": {"name": "one"}, "stringData": {"password": "hunter2"}})
            assert (await raw()).startswith(b"k8s:enc:aescbc:v1:old:")
        (tmp_path / "encryption.yaml").write_text(encryption("new", "old"))
        async with serving(given, tmp_path, port) as client:
            found = await told(client, "GET", f"{SECRETS}/one")
            assert base64.b64decode(found["data"]["password"]) == b"hunter2"
            await told(client, "PUT", f"{SECRETS}/one", found)  # as `kubectl replace` does to rotate
            assert (await raw()).startswith(b"k8s:enc:aescbc:v1:new:")
        await etcd.close()
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [e["verb"] for e in events if e["objectRef"].get("name") == "one"] == ["create", "get", "update"]
    assert b"hunter2" not in (tmp_path / "audit.log").read_bytes()
