"""What is served outside the resources: discovery, health, versions, metrics, OpenAPI, what extensions add.

Source: k8s.io/apiserver/pkg/server/routes.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from controlplane.apiserver.aggregation.aggregator import Aggregator
from controlplane.apiserver.exposition import Exposition
from controlplane.apiserver.flowcontrol import dump
from controlplane.apiserver.handlers import profiling
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.discovery import Discovery
from controlplane.apiserver.handlers.exchange import JSON, Answer, Exchange
from controlplane.apiserver.handlers.failures import no_such_method, no_such_resource
from controlplane.apiserver.handlers.health import TEXT, Health
from controlplane.apiserver.handlers.openapi import OpenAPI
from controlplane.apiserver.handlers.profiling import Profiling
from controlplane.apiserver.handlers.zpages import ZPages
from machinery.version import KUBERNETES_VERSION

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": KUBERNETES_VERSION,
    "gitCommit": "",  # filled in when it is asked for
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": f"python{platform.python_version()}",
    "compiler": platform.python_implementation().lower(),
    "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
}
"""What /version tells of the release that this server is compatible with."""
_ROOT = Path(__file__).parents[3]

NOT_FOUND = Answer(b"404 page not found\n", TEXT, 404, {"X-Content-Type-Options": "nosniff"})


@dataclass
class Paths:
    """Answers every path that is no resource."""

    api: Api
    discovery: Discovery
    health: Health
    openapi: OpenAPI
    aggregator: Aggregator
    exposition: Exposition
    zpages: ZPages
    profiling: Profiling = field(default_factory=Profiling)

    async def answer(self, exchange: Exchange) -> Answer:
        """The answer. Raises NotFound, MethodNotAllowed."""
        path = exchange.target.path
        if exchange.target.path.startswith("//"):
            return NOT_FOUND
        health = await self.health.answer(path, exchange.query)
        if health is not None:
            return health
        if path == "/":
            return self._index()
        trimmed = path.rstrip("/")
        first = trimmed.split("/")[1] if "/" in trimmed else ""
        if first in ("api", "apis"):
            return self._discovery(exchange, trimmed)
        if first == "openapi":
            return self._openapi(exchange, trimmed)
        if path == "/version" or path == "/version/":
            self._reading(exchange)
            return Answer(orjson.dumps(VERSION | {"gitCommit": await asyncio.to_thread(_source_digest)}))
        if path == "/metrics":
            return Answer(self.exposition.render(), CONTENT_TYPE_LATEST)
        if path.startswith(dump.PREFIX) and self.exposition.flow is not None:
            self._reading(exchange)
            told = dump.table(self.exposition.flow, path.removeprefix(dump.PREFIX))
            return Answer(told.encode(), TEXT) if told is not None else NOT_FOUND
        if path == "/metrics/slis":
            return Answer(await self.health.indicators(), CONTENT_TYPE_LATEST)
        if path.startswith(profiling.PREFIX) and self.api.settings.profiling:
            return await self.profiling.answer(exchange) or NOT_FOUND
        page = self.zpages.answer(exchange, self._paths())
        if page is not None:
            return page
        extension = self.api.extensions.paths.get(path)
        if extension is not None:
            self._reading(exchange)
            given = await extension({k.lower(): v for k, v in exchange.headers.items()})
            return Answer(given.body, given.content_type, given.status, given.headers)
        return NOT_FOUND

    def _reading(self, exchange: Exchange) -> None:
        if exchange.method != "GET":
            raise no_such_method()

    def _discovery(self, exchange: Exchange, path: str) -> Answer:
        accept = exchange.headers.get("Accept", "")
        found = self.discovery.answer(path, accept, exchange.headers.get("If-None-Match", ""))
        if found is None:
            if path.count("/") == 2 and path.startswith("/apis/"):
                return NOT_FOUND
            if path.startswith("/apis/") and path.split("/")[2] not in self.api.resources.group_versions():
                return NOT_FOUND
            raise no_such_resource()
        if path != "/apis":
            self._reading(exchange)
        return found

    def _openapi(self, exchange: Exchange, path: str) -> Answer:
        found = self.openapi.answer(path, exchange)
        return found if found is not None else NOT_FOUND

    def _index(self) -> Answer:
        return Answer(orjson.dumps({"paths": self._paths()}), JSON)

    def _paths(self) -> list[str]:
        """All paths that the server tells of."""
        groups = self.api.resources.group_versions()
        paths = ["/.well-known/openid-configuration", "/api", "/apis", "/apis/", "/version", "/metrics", "/openapi/v2"]
        paths += [
            "/openapi/v3",
            "/openapi/v3/",
            "/flagz",
            "/statusz",
            "/metrics/slis",
            *self.health.paths(),
            *self.api.extensions.paths,
        ]
        for group, versions in groups.items():
            base = f"/apis/{group}" if group else "/api"
            paths += [base, *(f"{base}/{version}" for version in versions)]
        return sorted(set(paths))


@cache
def _source_digest() -> str:
    """Which source it is that runs: what runs is the source itself, of a commit or not. Clients expect 40 digits."""
    digest = hashlib.sha1(usedforsecurity=False)
    for folder in ("machinery", "controlplane"):
        for file in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(f"{file.relative_to(_ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
