"""Another server that serves a version of a group: how to speak with it, and what it offers.

It is told who asks in headers, and believes them because of this server's front-proxy certificate.

Source: kube-aggregator/pkg/apiserver/handler_proxy.go, handler_discovery.go.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

from controlplane.apiserver.admission.webhook.client import service_address
from controlplane.apiserver.dialing import Unreachable, why
from controlplane.apiserver.handlers.discovery import AGGREGATED
from controlplane.apiserver.handlers.hijack import Peer
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.registry.objects import items, sub, text
from controlplane.apiserver.request import User
from controlplane.apiserver.settings import Settings
from machinery.api.meta import Object, name_of
from machinery.client.bodies import read_up_to
from machinery.errors import ServiceUnavailable, TransportError
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

_CHECK_SECONDS: Final = 6.0
_LARGEST_BYTES: Final = 64 * 1024 * 1024
_SELF: Final = User("system:kube-aggregator", groups=("system:masters",))


def identity_headers(user: User) -> list[tuple[str, str]]:
    """Who asks, for a server that believes this one."""
    made = [("X-Remote-User", user.name)]
    if user.uid:
        made.append(("X-Remote-Uid", user.uid))
    made += [("X-Remote-Group", group) for group in user.groups]
    made += [(f"X-Remote-Extra-{quote(key, safe='')}", value) for key, values in user.extra.items() for value in values]
    return made


@lru_cache(maxsize=256)
def _context(bundle: str, insecure: bool, certificate: str, key: str) -> ssl.SSLContext:
    data = base64.b64decode(bundle).decode("ascii") if bundle else None
    context = ssl.create_default_context(cadata=data)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


@dataclass
class Remote:
    """One APIService with a Service."""

    service: Object
    reader: Reader
    settings: Settings
    available: bool = False
    resources: dict[str, Any] | None = field(default=None)
    """Its APIVersionDiscovery, as it was last told."""
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Its OpenAPI documents, by v2 and v3."""

    @property
    def name(self) -> str:
        """Of the APIService."""
        return name_of(self.service)

    @property
    def group(self) -> str:
        """The group it serves."""
        return text(self.service, "spec", "group")

    @property
    def version(self) -> str:
        """The version it serves."""
        return text(self.service, "spec", "version")

    @property
    def priorities(self) -> tuple[int, int]:
        """Of the group, of the version."""
        spec = sub(self.service, "spec")
        return int(spec.get("groupPriorityMinimum") or 0), int(spec.get("versionPriority") or 0)

    @property
    def base(self) -> str:
        """The path that it answers."""
        return f"/apis/{self.group}/{self.version}"

    def peer(self) -> Peer:
        """Where to connect to. Raises ServiceUnavailable."""
        reference = sub(self.service, "spec", "service")
        namespace, name = text(reference, "namespace"), text(reference, "name")
        try:
            address = service_address(self.reader, namespace, name, reference.get("port") or 443)
            tls = _context(
                text(self.service, "spec", "caBundle"),
                sub(self.service, "spec").get("insecureSkipTLSVerify") is True,
                self.settings.proxy_client_cert_file,
                self.settings.proxy_client_key_file,
            )
        except (TransportError, ssl.SSLError, OSError, ValueError) as exc:
            raise Unreachable(why(exc)) from exc
        host, _, port = address.rpartition(":")
        return Peer(host.strip("[]"), int(port), tls, f"{name}.{namespace}.svc")

    async def fetch(self, path: str, accept: str = "application/json") -> tuple[int, str, bytes]:
        """GET as the aggregator itself: (status, media type, body). Raises ServiceUnavailable."""
        peer = self.peer()
        host = f"[{peer.host}]" if ":" in peer.host else peer.host
        connector = aiohttp.TCPConnector(ssl=peer.tls if peer.tls is not None else False, force_close=True)
        headers = [*identity_headers(_SELF), ("Accept", accept)]
        timeout = aiohttp.ClientTimeout(total=_CHECK_SECONDS)
        url = f"https://{host}:{peer.port}{path}"
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url, headers=headers, server_hostname=peer.server_name, allow_redirects=False) as answer,
            ):
                body = await read_up_to(answer.content, _LARGEST_BYTES)
                return answer.status, answer.headers.get("Content-Type", ""), body
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise ServiceUnavailable(f'Get "{url}": {why(exc)}') from exc

    async def discover(self) -> dict[str, Any] | None:
        """Its APIVersionDiscovery, from the aggregated document or made from the older one; None if it tells none."""
        status, media, body = await self.fetch("/apis", f"{AGGREGATED},application/json")
        try:
            if status == 200 and "APIGroupDiscoveryList" in media:
                for group in items(orjson.loads(body), "items"):
                    for version in items(group, "versions"):
                        if text(group, "metadata", "name") == self.group and text(version, "version") == self.version:
                            return {**version, "freshness": "Current"}
            status, _, body = await self.fetch(self.base)
            return _from_list(orjson.loads(body), self.group, self.version) if status == 200 else None
        except ValueError:
            return None

    async def describe(self) -> None:
        """Ask for its OpenAPI documents. Raises ServiceUnavailable."""
        for version in ("v2", "v3"):
            found = await self._openapi(version)
            if found is not None:
                self.documents[version] = found

    async def _openapi(self, version: str) -> dict[str, Any] | None:
        path = "/openapi/v2" if version == "v2" else f"/openapi/v3{self.base}"
        status, _, body = await self.fetch(path)
        try:
            found = orjson.loads(body) if status == 200 else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def _from_list(listed: Mapping[str, Any], group: str, version: str) -> dict[str, Any]:
    """An APIVersionDiscovery from an APIResourceList."""
    made: dict[str, dict[str, Any]] = {}
    for entry in items(listed, "resources"):
        plural, _, subresource = text(entry, "name").partition("/")
        kind = {"group": text(entry, "group"), "version": text(entry, "version"), "kind": text(entry, "kind")}
        verbs = list(entry.get("verbs") or ())
        if not subresource:
            found = made.setdefault(plural, {"resource": plural})
            found |= {
                "responseKind": {
                    "group": kind["group"] or group,
                    "version": kind["version"] or version,
                    "kind": kind["kind"],
                },
                "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
                "singularResource": text(entry, "singularName"),
                "verbs": verbs,
            }
            found |= {key: entry[key] for key in ("shortNames", "categories") if entry.get(key)}
        else:
            parent = made.setdefault(plural, {"resource": plural})
            parent.setdefault("subresources", []).append(
                {"subresource": subresource, "responseKind": kind, "verbs": verbs}
            )
    return {"version": version, "resources": list(made.values()), "freshness": "Current"}
