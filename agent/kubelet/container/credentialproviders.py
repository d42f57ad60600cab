"""Credential providers: programs that know how to log in to a registry, asked when one of their images is pulled.

Source: Configure a kubelet image credential provider; kubelet.config.k8s.io/v1 CredentialProviderConfig,
credentialprovider.kubelet.k8s.io/v1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent.command import CommandError, run
from agent.kubelet.container.imagename import registry_and_path, registry_matches
from agent.kubelet.container.pullsecrets import Auths
from machinery import settings
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.log import get_logger
from machinery.settings import load_config

log = get_logger(__name__)

_API = "credentialprovider.kubelet.k8s.io"
_VERSIONS = tuple(f"{_API}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_CONFIGS = tuple(f"kubelet.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_TIMEOUT_SECONDS = 60.0
_KEYS = {"Image": 0, "Registry": 1, "Global": 2}


@dataclass(frozen=True)
class Provider:
    """One provider as configured."""

    name: str
    path: str
    patterns: tuple[str, ...]
    cache_seconds: float
    api_version: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def load(path: str, directory: str) -> list[Provider]:
    """The providers of a configuration file. Raises SettingsError naming file, provider and field."""
    if not path:
        return []
    if not directory:
        raise SettingsError("--image-credential-provider-bin-dir is needed beside --image-credential-provider-config")
    found = []
    for entry in load_config(path, "CredentialProviderConfig", _CONFIGS).get("providers") or ():
        name = entry.get("name") or ""
        where = f"{path}: provider {name!r}"
        program = os.path.join(directory, name)
        if not name or "/" in name or not os.access(program, os.X_OK):
            raise SettingsError(f"{where}: plugin binary executable {program} did not exist")
        if entry.get("apiVersion") not in _VERSIONS:
            raise SettingsError(
                f"{where}: apiVersion: {entry.get('apiVersion')!r}: one of {', '.join(_VERSIONS)} is needed"
            )
        if not entry.get("matchImages"):
            raise SettingsError(f"{where}: matchImages: at least one is needed")
        if entry.get("tokenAttributes"):
            raise SettingsError(f"{where}: tokenAttributes is not supported")
        try:
            seconds = settings.duration(entry.get("defaultCacheDuration") or "")
        except ValueError as error:
            raise SettingsError(f"{where}: defaultCacheDuration: {error}") from error
        env = {e["name"]: e["value"] for e in entry.get("env") or ()}
        patterns, args = tuple(entry["matchImages"]), tuple(entry.get("args") or ())
        found.append(Provider(name, program, patterns, seconds, entry["apiVersion"], args, env))
    return found


def matches(pattern: str, image: str) -> bool:
    """Whether a matchImages pattern is for an image: host labels by globs, the same port, the path as a prefix."""
    registry, path = registry_and_path(image)
    host, _, prefix = pattern.removeprefix("https://").removeprefix("http://").partition("/")
    return registry_matches(host, registry) and path.startswith(prefix)


class CredentialProviders:
    """Asks the providers, and remembers what they said. One for the whole kubelet."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = providers
        self._known: dict[tuple[str, str], tuple[float, Auths]] = {}

    async def auths(self, image: str) -> list[Auths]:
        """What the providers say for an image; one that fails is logged, and says nothing."""
        found = []
        for provider in self._providers:
            if any(matches(pattern, image) for pattern in provider.patterns):
                try:
                    found.append(await self._ask(provider, image))
                except (CommandError, ValueError, KeyError) as error:
                    log.error("credential provider failed", provider=provider.name, image=image, err=str(error))
        return found

    async def _ask(self, provider: Provider, image: str) -> Auths:
        keys = ((provider.name, image), (provider.name, registry_and_path(image)[0]), (provider.name, ""))
        for key in keys:
            until, known = self._known.get(key, (0.0, {}))
            if time.monotonic() < until:
                return known
        request = {"kind": "CredentialProviderRequest", "apiVersion": provider.api_version, "image": image}
        answer = await run(
            provider.path,
            *provider.args,
            stdin=orjson.dumps(request),
            timeout_seconds=_TIMEOUT_SECONDS,
            check=True,
            env={**os.environ, **provider.env},
        )
        told: Object = orjson.loads(answer.stdout)
        if told.get("kind") != "CredentialProviderResponse" or told.get("apiVersion") != provider.api_version:
            raise ValueError(f"it answered with {told.get('apiVersion')} {told.get('kind')}")
        auths: dict[str, Any] = dict(told.get("auth") or {})
        seconds = settings.duration(told["cacheDuration"]) if told.get("cacheDuration") else provider.cache_seconds
        if seconds > 0:
            key = keys[_KEYS[told["cacheKeyType"]]]
            self._known[key] = (time.monotonic() + seconds, auths)
        return auths
