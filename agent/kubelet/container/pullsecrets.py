"""Credentials for registries: from image pull secrets and the node's own Docker configuration.

Source: Pull an Image from a Private Registry; kubelet's credentialprovider keyring (matching of hosts and paths).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from agent.cri import api_pb2 as pb
from agent.kubelet.container.imagename import DEFAULT_REGISTRY, registry_and_path, registry_matches
from machinery.api.meta import Object

Auths = dict[str, Any]
"""Credentials by registry, as a Docker configuration has them."""

_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


def from_secrets(secrets: Iterable[Object]) -> list[Auths]:
    """The `auths` of each pull secret; what can't be read is left out, as upstream does."""
    found = []
    for secret in secrets:
        data = secret.get("data") or {}
        for key, nested in ((".dockerconfigjson", True), (".dockercfg", False)):
            if key in data:
                try:
                    content = orjson.loads(base64.b64decode(data[key]))
                except (orjson.JSONDecodeError, binascii.Error, ValueError):
                    continue
                auths = content.get("auths") if nested and isinstance(content, dict) else content
                if isinstance(auths, dict):
                    found.append(auths)
    return found


def from_node(root_dir: str) -> list[Auths]:
    """The `auths` of config.json in the kubelet's directory, if there is one."""
    try:
        content = json.loads(Path(root_dir, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    auths = content.get("auths") if isinstance(content, dict) else None
    return [auths] if isinstance(auths, dict) else []


def credentials_for(image: str, sources: Iterable[Auths]) -> list[pb.AuthConfig]:
    """Every credential that may be for this image, the most specific first."""
    registry, path = registry_and_path(image)
    matches: list[tuple[int, pb.AuthConfig]] = []
    for auths in sources:
        for location, entry in auths.items():
            specific = _match(location, registry, path)
            if specific is not None and isinstance(entry, dict):
                auth = _auth(entry, location)
                if auth is not None:
                    matches.append((specific, auth))
    matches.sort(key=lambda match: -match[0])
    return [auth for _, auth in matches]


def _match(location: str, registry: str, path: str) -> int | None:
    """How specific a location is for an image; None if it isn't for it."""
    bare = location.removeprefix("https://").removeprefix("http://").rstrip("/")
    bare = bare.removesuffix("/v1").removesuffix("/v2")
    host, _, prefix = bare.partition("/")
    if host in _HUB_NAMES:
        host = DEFAULT_REGISTRY
    if not registry_matches(host, registry):
        return None
    if prefix and path != prefix and not path.startswith(prefix + "/"):
        return None
    return len(prefix) + (0 if "*" in host else 1)


def _auth(entry: dict[str, Any], location: str) -> pb.AuthConfig | None:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        try:
            username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
    return pb.AuthConfig(
        username=username,
        password=password,
        identity_token=entry.get("identitytoken") or "",
        registry_token=entry.get("registrytoken") or "",
        server_address=location,
    )
