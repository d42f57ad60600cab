"""A group that another server serves: announced by an APIService, reached through this one."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tls_servers import AUTHORITY, BUNDLE, eventually, https_server, tls_for

from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import RunningServer, authority, running_apiserver
from machinery import pki
from machinery.api import meta
from machinery.api.catalogue import APISERVICES, SERVICES
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import Invalid

NAME = "v1.stars.example.com"
FOUND = {"spec": {"type": "ExternalName", "externalName": "localhost", "selector": None, "clusterIP": None}}
"""The Service leads to this machine: endpoints of its own may not be in the loopback range."""
BASE = "/apis/stars.example.com/v1"


class Stars:
    """An extension API server that believes whoever shows the front proxy's certificate."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str]]] = []
        self.port = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        groups = request.headers.getall("X-Remote-Group", [])
        self.asked.append((request.method, request.headers.get("X-Remote-User", ""), groups))
        if request.path == BASE:
            resource = {"name": "comets", "singularName": "comet", "namespaced": True, "kind": "Comet"}
            listed = [{**resource, "verbs": ["get", "list"], "shortNames": ["co"]}]
            head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "stars.example.com/v1"}
            return web.json_response({**head, "resources": listed})
        if request.path == "/openapi/v2":
            schemas = {"example.Comet": {"type": "object"}}
            return web.json_response({"swagger": "2.0", "paths": {f"{BASE}/comets": {}}, "definitions": schemas})
        if request.path == f"/openapi/v3{BASE}":
            return web.json_response({"openapi": "3.0.0", "paths": {f"{BASE}/comets": {}}})
        if request.path.startswith(f"{BASE}/namespaces/default/echo"):
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._echo(request)
            told = {"path": request.path_qs, "body": await request.read() and (await request.text())}
            return web.json_response({**told, "authorization": request.headers.get("Authorization")})
        return web.Response(status=404)

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"heard {message.data}")
        return socket


def api_service(port: int = 443, **spec: Any) -> dict[str, Any]:
    service = {"namespace": "default", "name": "stars", "port": port}
    told = {"group": "stars.example.com", "version": "v1", "groupPriorityMinimum": 1500, "versionPriority": 20}
    return {"metadata": {"name": NAME}, "spec": {**told, "service": service, "caBundle": BUNDLE, **spec}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[tuple[RunningServer, Client, Stars]]:
    stars = Stars()
    front = pki.issue(AUTHORITY, "front-proxy", usages=pki.CLIENT_USAGES, algorithm="ECDSA-P256")
    pki.write_pair(front, tmp_path / "front.crt", tmp_path / "front.key")
    settings = replace(
        Settings(),
        proxy_client_cert_file=str(tmp_path / "front.crt"),
        proxy_client_key_file=str(tmp_path / "front.key"),
    )
    tls = tls_for("stars.default.svc", AUTHORITY.certificate_pem)
    async with (
        https_server(stars.handle, tls) as there,
        running_apiserver(settings) as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        spec = {"selector": {"app": "stars"}, "ports": [{"port": there.port}]}
        await client.create(SERVICES, {"metadata": {"name": "stars"}, "spec": spec}, "default")
        stars.port = there.port
        yield server, client, stars


async def available(client: Client) -> dict[str, Any] | None:
    found = await client.get(APISERVICES, NAME)
    return meta.condition((found.get("status") or {}).get("conditions"), "Available")


async def raw(server: RunningServer, path: str, **more: Any) -> tuple[int, str]:
    context = ssl.create_default_context(cadata=authority().certificate_pem.decode())
    headers = {"Authorization": f"Bearer {server.token}", **more.pop("headers", {})}
    async with aiohttp.ClientSession() as session:
        method = more.pop("method", "GET")
        async with session.request(method, server.url + path, headers=headers, ssl=context, **more) as answer:
            return answer.status, await answer.text()


async def test_a_group_of_another_server_is_found_described_and_reached(
    world: tuple[RunningServer, Client, Stars],
) -> None:
    server, client, stars = world
    await client.create(APISERVICES, api_service(stars.port))

    async def condition(reason: str) -> Any:
        found = await available(client)
        return found if found is not None and found["reason"] == reason else None

    missing = await eventually(lambda: condition("EndpointsNotFound"))
    assert missing["message"] == 'cannot find endpointslices for service/stars in "default"'
    assert await raw(server, f"{BASE}/namespaces/default/echo") == (503, "service unavailable\n")

    await client.patch(SERVICES, "stars", FOUND, "default")
    passed = await eventually(lambda: condition("Passed"))
    assert (passed["status"], passed["message"]) == ("True", "all checks passed")

    status, text = await raw(
        server,
        f"{BASE}/namespaces/default/echo?q=1%2F2",
        method="POST",
        data="hello",
        headers={"X-Remote-User": "evil"},
    )
    assert status == 200
    assert json.loads(text) == {
        "path": f"{BASE}/namespaces/default/echo?q=1/2",
        "body": "hello",
        "authorization": None,
    }
    assert ("POST", "admin", ["system:masters", "system:authenticated"]) in stars.asked

    groups = json.loads((await raw(server, "/apis"))[1])["groups"]
    assert [g["preferredVersion"]["version"] for g in groups if g["name"] == "stars.example.com"] == ["v1"]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    items = json.loads((await raw(server, "/apis", headers={"Accept": accept}))[1])["items"]
    version = next(i for i in items if i["metadata"]["name"] == "stars.example.com")["versions"][0]
    assert version["freshness"] == "Current"
    assert version["resources"][0]["resource"] == "comets"
    assert version["resources"][0]["shortNames"] == ["co"]

    document = json.loads((await raw(server, "/openapi/v2"))[1])
    assert f"{BASE}/comets" in document["paths"]
    assert "example.Comet" in document["definitions"]
    assert BASE[1:] in json.loads((await raw(server, "/openapi/v3"))[1])["paths"]

    await client.delete(APISERVICES, NAME)
    assert await eventually(lambda: _gone(server))


async def _gone(server: RunningServer) -> bool:
    return (await raw(server, f"{BASE}/namespaces/default/echo"))[0] == 404


async def test_connections_that_change_protocol_pass_through(world: tuple[RunningServer, Client, Stars]) -> None:
    server, client, stars = world
    await client.patch(SERVICES, "stars", FOUND, "default")
    await client.create(APISERVICES, api_service(stars.port))

    async def passed() -> bool:
        found = await available(client)
        return found is not None and found["status"] == "True"

    await eventually(passed)
    context = ssl.create_default_context(cadata=authority().certificate_pem.decode())
    headers = {"Authorization": f"Bearer {server.token}"}
    url = f"{server.url}{BASE}/namespaces/default/echo"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers, ssl=context) as socket:
        await socket.send_str("polaris")
        assert (await socket.receive_str()) == "heard polaris"
    assert ("GET", "admin", ["system:masters", "system:authenticated"]) in stars.asked


async def test_what_is_served_here_is_registered_by_itself(world: tuple[RunningServer, Client, Stars]) -> None:
    _, client, _ = world

    async def registered() -> bool:
        names = {item["metadata"]["name"] for item in (await client.list(APISERVICES)).items}
        return {"v1.", "v1.apps", "v2.autoscaling"} <= names

    await eventually(registered)
    apps = await client.get(APISERVICES, "v1.apps")
    assert apps["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
    assert apps["spec"] == {"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15}
    assert apps["status"]["conditions"][0]["reason"] == "Local"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "v2"}, r'must be `spec\.version\+"\."\+spec\.group`: "v2\.stars\.example\.com"'),
        ({"groupPriorityMinimum": 0}, r"spec\.groupPriorityMinimum: Invalid value: 0: must be positive and less than"),
        ({"insecureSkipTLSVerify": True}, r"spec\.insecureSkipTLSVerify: Invalid value: true: may not be true if caB"),
        ({"service": None}, r'spec\.caBundle: Invalid value: "\d+ bytes": local APIServices may not have a caBundle'),
    ],
)
async def test_a_bad_one_is_refused(
    world: tuple[RunningServer, Client, Stars], change: dict[str, Any], message: str
) -> None:
    _, client, _ = world
    with pytest.raises(Invalid, match=message):
        await client.create(APISERVICES, api_service(**change))
