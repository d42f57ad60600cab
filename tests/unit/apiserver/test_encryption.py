"""Encryption at rest: upstream's bytes, rotation of keys, configurations that are wrong."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from nacl.secret import SecretBox

from controlplane.apiserver.encryption import configuration
from controlplane.apiserver.encryption.providers import Undecipherable
from controlplane.apiserver.encryption.storage import RELOAD_SECONDS, EncryptedStorage, reload_regularly
from controlplane.apiserver.storage.memory import MemoryStorage
from controlplane.apiserver.testing import running_apiserver
from machinery.errors import SettingsError, StorageUnavailable
from machinery.testing.clock import FakeClock

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "/registry/secrets/default/one"


def provider(name: str, *keys: str) -> dict[str, Any]:
    found = [{"name": key, "secret": base64.b64encode(key.encode()[:1] * 32).decode()} for key in keys]
    return {name: {"keys": found}}


def config(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    entry = {"resources": list(resources), "providers": list(providers)}
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}


IDENTITY: dict[str, Any] = {"identity": {}}


async def stored_with(given: dict[str, Any], value: bytes = b"value") -> tuple[MemoryStorage, bytes]:
    inner = MemoryStorage()
    await EncryptedStorage(inner, configuration.build(given)).put(SECRET, value, expected=0)
    stored, _ = await inner.get(SECRET)
    assert stored is not None
    return inner, stored.value


async def test_aescbc_is_an_iv_and_padded_blocks() -> None:
    _, raw = await stored_with(config(provider("aescbc", "key1")))
    prefix = b"k8s:enc:aescbc:v1:key1:"
    assert raw.startswith(prefix)
    body = raw[len(prefix) :]
    decryptor = Cipher(AES(b"k" * 32), CBC(body[:16])).decryptor()
    assert decryptor.update(body[16:]) == b"value" + b"\x0b" * 11


async def test_aesgcm_authenticates_the_key_in_storage() -> None:
    _, raw = await stored_with(config(provider("aesgcm", "key1")))
    body = raw.removeprefix(b"k8s:enc:aesgcm:v1:key1:")
    assert AESGCM(b"k" * 32).decrypt(body[:12], body[12:], SECRET.encode()) == b"value"


async def test_secretbox_is_nacls() -> None:
    _, raw = await stored_with(config(provider("secretbox", "key1")))
    assert SecretBox(b"k" * 32).decrypt(raw.removeprefix(b"k8s:enc:secretbox:v1:key1:")) == b"value"


@pytest.mark.parametrize("name", ["aescbc", "aesgcm", "secretbox"])
async def test_keys_are_rotated_by_writing_anew(name: str) -> None:
    inner, _ = await stored_with(config(provider(name, "old")))
    rotated = EncryptedStorage(inner, configuration.build(config(provider(name, "new", "old"), IDENTITY)))
    stored, _ = await rotated.get(SECRET)
    assert stored is not None
    assert (stored.value, stored.stale) == (b"value", True)
    await rotated.put(SECRET, stored.value, expected=stored.revision)
    only_new = EncryptedStorage(inner, configuration.build(config(provider(name, "new"))))
    again, _ = await only_new.get(SECRET)
    assert again is not None
    assert (again.value, again.stale) == (b"value", False)
    lost = EncryptedStorage(inner, configuration.build(config(provider(name, "other"))))
    with pytest.raises(StorageUnavailable, match="unable to transform key"):
        await lost.get(SECRET)
    found, _, _ = await lost.list("/registry/")
    assert [s.value for s in found] == [b""]  # which no object is


async def test_a_moved_or_shortened_value_does_not_open() -> None:
    for name in ("aescbc", "aesgcm", "secretbox"):
        transformer = configuration.build(config(provider(name, "key1"))).of("", "secrets")
        assert transformer is not None
        sealed = transformer.seal(b"value", b"here")
        if name == "aesgcm":
            with pytest.raises(Undecipherable):
                transformer.open(sealed, b"there")
        with pytest.raises(Undecipherable):
            transformer.open(sealed[: len(f"k8s:enc:{name}:v1:key1:") + 5], b"here")
        with pytest.raises(Undecipherable, match="no matching prefix found"):
            transformer.open(b"plain", b"here")


def test_rules_are_found_by_resource_then_group_then_all() -> None:
    given = config(provider("aescbc", "secrets"))
    given["resources"].append(config(provider("aescbc", "core"), resources=("*.",))["resources"][0])
    given["resources"].append(config(provider("aescbc", "all"), resources=("*.*",))["resources"][0])
    assert not list(configuration.check(given))
    found = configuration.build(given)

    def key(group: str, resource: str) -> bytes:
        transformer = found.of(group, resource)
        assert transformer is not None
        return transformer.ciphers[0].prefix

    assert key("", "secrets") == b"k8s:enc:aescbc:v1:secrets:"
    assert key("", "configmaps") == b"k8s:enc:aescbc:v1:core:"
    assert key("apps", "deployments") == b"k8s:enc:aescbc:v1:all:"
    given["resources"].reverse()
    with pytest.raises(SettingsError, match=re.escape('resource "*." is masked by earlier rule "*.*"')):
        configuration.build(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"resources": []}, "resources: Required value: at least one resources is required"),
        (config(), "resources[0].providers: Required value"),
        (config(IDENTITY, resources=("Secrets",)), "resource name should not contain capital letters"),
        (config(IDENTITY, resources=("*",)), "use '*.' to encrypt all the resources from core API group"),
        (config(IDENTITY, resources=("secrets", "*.")), "using overlapping resources"),
        (config(IDENTITY, resources=("secrets", "secrets")), "the same resource cannot be specified multiple times"),
        (config(IDENTITY, resources=("events.events.k8s.io",)), "Use 'events' instead in the config file"),
        (config(IDENTITY, resources=("pods.*",)), "encrypting the same resource across groups is not supported"),
        (config({"aescbc": {"keys": []}}), "aescbc.keys: Required value: at least one keys is required"),
        (config({"identity": {}, "aescbc": {"keys": []}}), "more than one provider specified in a single element"),
        (config({"rot13": {}}), "provider does not contain any of the expected providers"),
        (config({"kms": {"name": "x"}}), "kms: Forbidden: not supported by this server"),
        (config({"aesgcm": {"keys": [{"name": "a", "secret": "!"}]}}), "secrets must be base64 encoded"),
        (
            config({"secretbox": {"keys": [{"name": "a", "secret": "YWJj"}]}}),
            'Invalid value: "REDACTED": secret is not of the expected length, got 3, expected one of [32]',
        ),
    ],
)
def test_a_wrong_configuration_is_told(given: dict[str, Any], told: str) -> None:
    assert told in "; ".join(str(error) for error in configuration.check(given))


async def test_a_changed_file_is_taken_up_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file, clock = tmp_path / "encryption.yaml", FakeClock()
    file.write_bytes(orjson.dumps(config(provider("aescbc", "old"))))
    storage = EncryptedStorage(MemoryStorage(), configuration.load(str(file)))
    task = asyncio.create_task(reload_regularly(storage, str(file), clock))
    first = storage.encryption
    for content, changes in ((b"nonsense: [", False), (orjson.dumps(config(provider("aescbc", "new"))), True)):
        file.write_bytes(content)
        await clock.settle()
        await clock.advance(RELOAD_SECONDS)
        assert (storage.encryption is not first) == changes
    task.cancel()


async def test_secrets_of_an_api_server_are_not_to_be_read_in_storage() -> None:
    inner = MemoryStorage()
    storage = EncryptedStorage(inner, configuration.build(config(provider("aescbc", "old"), IDENTITY)))
    secret = {"metadata": {"name": "one"}, "stringData": {"password": "hunter2"}}
    async with running_apiserver(storage=storage) as server:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()))
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:
            path = "/api/v1/namespaces/default/secrets"
            async with client.post(path, json=secret) as response:
                assert response.status == 201
            raw, _ = await inner.get(SECRET)
            assert raw is not None
            assert raw.value.startswith(b"k8s:enc:aescbc:v1:old:")
            async with client.get(f"{path}/one") as response:
                made = await response.json()
            assert base64.b64decode(made["data"]["password"]) == b"hunter2"
            storage.encryption = configuration.build(config(provider("secretbox", "new"), provider("aescbc", "old")))
            async with client.put(f"{path}/one", json=made) as response:  # nothing changes but the key
                assert response.status == 200
            raw, _ = await inner.get(SECRET)
            assert raw is not None
            assert raw.value.startswith(b"k8s:enc:secretbox:v1:new:")
