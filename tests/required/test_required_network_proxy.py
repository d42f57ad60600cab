"""The API server's proxy to pods and services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from cluster import Cluster, eventually, pod, requirement
from servers import server

from machinery.api.catalogue import ENDPOINTS, PODS, SERVICES
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture"]

LABELS = {"proxy-service-target": "true"}
ATTEMPTS = 20
VERBS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


@dataclass(frozen=True, slots=True)
class Raw:
    """Requests to the API server as they are: answers of the proxy are no objects, and redirects are not followed."""

    session: aiohttp.ClientSession
    server: str

    async def request(self, verb: str, path: str) -> tuple[int, str, str]:
        """(status, Location, body)."""
        async with self.session.request(verb, self.server + path, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", ""), await answer.text()


@asynccontextmanager
async def _raw(cluster: Cluster) -> AsyncIterator[Raw]:
    config = cluster.client.config
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    tls = config.ssl_context()
    connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        yield Raw(session, config.server)


async def _serving(cluster: Cluster, service: str, options: Object, *ports: Object) -> None:
    """A pod `server` and a service whose endpoint it is."""
    await cluster.start(pod("server", await server(cluster, options, ports=_declared(options)), labels=LABELS))
    await cluster.create(SERVICES, {"metadata": {"name": service}, "spec": {"selector": LABELS, "ports": list(ports)}})

    async def has_endpoint() -> bool:
        found = (await cluster.client.list(ENDPOINTS, cluster.namespace)).items
        return any(each.get("subsets") for each in found if name_of(each) == service)

    await eventually(has_endpoint, f"an endpoint of {service}")


def _declared(options: Object) -> list[Object]:
    return [{"name": name, "containerPort": port} for name, port in options.get("names", {}).items()]


LINK, TLS_LINK = '<a href="{}/rewriteme">test</a>', '<a href="{}/tlsrewriteme">test</a>'
TEXTS = {"80": LINK.format(""), "1080": LINK.format(""), "160": "foo", "162": "bar"}
TLS_TEXTS = {"443": TLS_LINK.format(""), "460": "tls baz", "462": "tls qux"}


@requirement("[sig-network] Proxy version v1 should proxy through a service and a pod [Conformance]")
@pytest.mark.timeout(180)
async def test_service_and_pod(cluster: Cluster) -> None:
    options = {
        "texts": TEXTS,
        "tls": TLS_TEXTS,
        "names": {"first": 80, "dest1": 160, "dest2": 162, "tlsdest1": 460, "tlsdest2": 462},
    }
    await _serving(
        cluster,
        "proxied",
        options,
        {"name": "portname1", "port": 80, "targetPort": "dest1"},
        {"name": "portname2", "port": 81, "targetPort": 162},
        {"name": "tlsportname1", "port": 443, "targetPort": "tlsdest1"},
        {"name": "tlsportname2", "port": 444, "targetPort": 462},
    )

    def through(name: str) -> str:
        return f"/api/v1/namespaces/{cluster.namespace}/{name}/proxy"

    services = {
        "services/proxied:portname1": "foo",
        "services/http:proxied:portname1": "foo",
        "services/proxied:portname2": "bar",
        "services/http:proxied:portname2": "bar",
        "services/https:proxied:tlsportname1": "tls baz",
        "services/https:proxied:tlsportname2": "tls qux",
    }
    pods = {
        "pods/server": LINK,
        "pods/server:1080": LINK,
        "pods/http:server:1080": LINK,
        "pods/server:160": "foo",
        "pods/http:server:160": "foo",
        "pods/server:162": "bar",
        "pods/http:server:162": "bar",
        "pods/https:server:443": TLS_LINK,
        "pods/https:server:460": "tls baz",
        "pods/https:server:462": "tls qux",
    }
    wanted = {through(name): text.format(through(name)) for name, text in (services | pods).items()}
    async with _raw(cluster) as raw:
        for _ in range(ATTEMPTS):
            answers = await asyncio.gather(*(raw.request("GET", f"{path}/") for path in wanted))
            assert dict(zip(wanted, answers, strict=True)) == {path: (200, "", text) for path, text in wanted.items()}


async def _json_server(cluster: Cluster) -> None:
    await _serving(cluster, "test-service", {"http": [80], "json": "foo"}, {"port": 80, "targetPort": 80})


async def _answers(raw: Raw, verb: str, path: str) -> None:
    """Wait until a request is answered by the server, with the method that it was."""

    async def fine() -> bool:
        status, _, body = await raw.request(verb, path)
        return status == 200 and (verb == "HEAD" or json.loads(body) == {"Method": verb, "Body": "foo"})

    await eventually(fine, f"{verb} {path}")


@requirement(
    "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath [Conformance]"
)
async def test_with_path(cluster: Cluster) -> None:
    await _json_server(cluster)
    async with _raw(cluster) as raw:
        for resource, name in ((PODS, "server"), (SERVICES, "test-service")):
            for verb in VERBS:
                await _answers(raw, verb, resource.path(cluster.namespace, name, f"proxy/some/path/with/{verb}"))


@requirement(
    "[sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy [Conformance]"
)
async def test_without_path(cluster: Cluster) -> None:
    await _json_server(cluster)
    async with _raw(cluster) as raw:
        for resource, name in ((PODS, "server"), (SERVICES, "test-service")):
            path = resource.path(cluster.namespace, name, "proxy")
            for verb in VERBS:
                if verb in ("GET", "HEAD"):  # as a folder's, with the query kept
                    status, location, _ = await raw.request(verb, f"{path}?method={verb}")
                    assert (status, location) == (301, f"{path}/?method={verb}")
                else:
                    await _answers(raw, verb, f"{path}?method={verb}")
