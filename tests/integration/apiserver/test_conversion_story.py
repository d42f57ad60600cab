"""Custom resources of two versions whose definition has a webhook convert between them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tls_servers import BUNDLE, eventually, https_server, tls_for

from controlplane.apiserver.testing import running_apiserver
from machinery.api import meta
from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS
from machinery.api.resource import ResourceType
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import InternalError, Invalid

V1 = ResourceType("fleet.example.com", "v1", "ports", "Port")
V2 = ResourceType("fleet.example.com", "v2", "ports", "Port")
NAME = "ports.fleet.example.com"


class Converter:
    """v1 keeps `hostPort: host:port`, v2 keeps host and port apart."""

    def __init__(self) -> None:
        self.calls = 0
        self.broken = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.calls += 1
        review = await web.Request.json(request)
        asked = review["request"]
        result = {"status": "Failure", "message": self.broken} if self.broken else {"status": "Success"}
        made = [] if self.broken else [self._converted(o, asked["desiredAPIVersion"]) for o in asked["objects"]]
        answer = {"uid": asked["uid"], "result": result, "convertedObjects": made}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer})

    def _converted(self, obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        made = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v2") and "hostPort" in made:
            made["host"], _, made["port"] = made.pop("hostPort").partition(":")
        elif wanted.endswith("/v1") and "host" in made:
            made["hostPort"] = f"{made.pop('host')}:{made.pop('port')}"
        return made


def definition(port: int) -> dict[str, Any]:
    def version(name: str, *fields: str, stored: bool) -> dict[str, Any]:
        schema = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
        selectable = [{"jsonPath": f".{field}"} for field in fields]
        told = {"schema": {"openAPIV3Schema": schema}, "selectableFields": selectable}
        return {"name": name, "served": True, "storage": stored, **told}

    config = {"url": f"https://127.0.0.1:{port}/convert", "caBundle": BUNDLE}
    webhook = {"clientConfig": config, "conversionReviewVersions": ["v1"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "fleet.example.com",
            "scope": "Namespaced",
            "names": {"plural": "ports", "kind": "Port"},
            "versions": [version("v1", "hostPort", stored=True), version("v2", "host", "port", stored=False)],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        },
    }


def port(version: str, name: str, **fields: str) -> dict[str, Any]:
    return {"apiVersion": f"fleet.example.com/{version}", "kind": "Port", "metadata": {"name": name}, **fields}


@pytest.fixture
async def world() -> AsyncIterator[tuple[Client, Converter]]:
    converter = Converter()
    async with (
        https_server(converter.handle, tls_for("127.0.0.1")) as hook,
        running_apiserver() as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        await client.create(CUSTOMRESOURCEDEFINITIONS, definition(hook.port))

        async def established() -> bool:
            found = await client.get(CUSTOMRESOURCEDEFINITIONS, NAME)
            condition = meta.condition((found.get("status") or {}).get("conditions"), "Established")
            return condition is not None and condition["status"] == "True"

        await eventually(established)
        yield client, converter


async def test_each_version_shows_every_object_in_its_own_form(world: tuple[Client, Converter]) -> None:
    client, converter = world
    made = await client.create(V1, port("v1", "a", hostPort="piraeus:80"), "default")
    assert (made["hostPort"], converter.calls) == ("piraeus:80", 0)  # asked and stored in one version
    shown = await client.get(V2, "a", "default")
    assert (shown["host"], shown["port"], shown["metadata"]["uid"]) == ("piraeus", "80", made["metadata"]["uid"])

    changed = await client.patch(V2, "a", {"port": "81"}, "default")
    assert (changed["apiVersion"], changed["port"]) == ("fleet.example.com/v2", "81")
    assert (await client.get(V1, "a", "default"))["hostPort"] == "piraeus:81"

    # From now on v2 is stored: a list of either version holds objects that are stored in both.
    spec = (await client.get(CUSTOMRESOURCEDEFINITIONS, NAME))["spec"]
    for version in spec["versions"]:
        version["storage"] = version["name"] == "v2"
    moved = await client.patch(CUSTOMRESOURCEDEFINITIONS, NAME, {"spec": spec})
    assert moved["status"]["storedVersions"] == ["v1", "v2"]

    async def stored_in_v2() -> bool:
        before = converter.calls
        await client.create(V2, port("v2", f"p{before}", host="delos", port="1"), "default")
        return converter.calls == before

    await eventually(stored_in_v2)
    for kind, field, value in ((V1, "hostPort", "piraeus:81"), (V2, "host", "piraeus")):
        listed = await client.list(kind, "default")
        assert {item["apiVersion"] for item in listed.items} == {kind.api_version}
        assert next(i for i in listed.items if i["metadata"]["name"] == "a")[field] == value


async def test_watchers_get_their_own_version(world: tuple[Client, Converter]) -> None:
    client, _ = world
    await client.create(V1, port("v1", "a", hostPort="piraeus:80"), "default")
    seen = []
    async with asyncio.timeout(10):
        async for event in client.watch(V2, namespace="default"):
            seen.append((event.type, event.object.get("host"), event.object.get("port")))
            if len(seen) == 1:
                await client.patch(V1, "a", {"hostPort": "piraeus:81"}, "default")
            elif len(seen) == 2:
                await client.delete(V1, "a", "default")
            else:
                break
    assert seen == [
        ("ADDED", "piraeus", "80"),
        ("MODIFIED", "piraeus", "81"),
        ("DELETED", "piraeus", "81"),
    ]


async def test_fields_select_in_the_version_that_has_them(world: tuple[Client, Converter]) -> None:
    client, _ = world
    for name, host_port in (("a", "piraeus:80"), ("b", "delos:80"), ("c", "delos:81")):
        await client.create(V1, port("v1", name, hostPort=host_port), "default")

    async def names(kind: ResourceType, selector: str) -> list[str]:
        listed = await client.list(kind, "default", field_selector=selector)
        return [item["metadata"]["name"] for item in listed.items]

    assert await names(V1, "hostPort=delos:80") == ["b"]
    assert await names(V2, "host=delos") == ["b", "c"]
    assert await names(V2, "host=delos,port!=80") == ["c"]
    seen = []
    async with asyncio.timeout(10):
        async for event in client.watch(V2, namespace="default", field_selector="host=delos"):
            seen.append((event.type, event.object["metadata"]["name"]))
            if len(seen) == 2:
                await client.patch(V1, "c", {"hostPort": "piraeus:81"}, "default")
            elif len(seen) == 3:
                await client.patch(V2, "a", {"host": "delos"}, "default")
            elif len(seen) == 4:
                break
    assert seen == [("ADDED", "b"), ("ADDED", "c"), ("DELETED", "c"), ("ADDED", "a")]
    await client.request("DELETE", V2.path("default"), query={"fieldSelector": "host=delos"})
    assert await names(V2, "") == ["c"]


async def test_a_webhook_that_fails_is_told_of_and_breaks_nothing(world: tuple[Client, Converter]) -> None:
    client, converter = world
    await client.create(V1, port("v1", "a", hostPort="piraeus:80"), "default")
    converter.broken = "out of order"
    with pytest.raises(InternalError, match=r"conversion webhook for fleet\.example\.com/v1, Kind=Port failed: out of"):
        await client.get(V2, "a", "default")
    with pytest.raises(InternalError, match="out of order"):
        await client.create(V2, port("v2", "b", host="delos", port="1"), "default")
    assert [i["metadata"]["name"] for i in (await client.list(V1, "default")).items] == ["a"]
    converter.broken = ""
    assert (await client.get(V2, "a", "default"))["host"] == "piraeus"


async def test_a_stored_version_stays_until_nothing_is_stored_in_it(world: tuple[Client, Converter]) -> None:
    client, _ = world
    spec = (await client.get(CUSTOMRESOURCEDEFINITIONS, NAME))["spec"]
    spec["versions"] = [{**spec["versions"][1], "storage": True}]
    with pytest.raises(
        Invalid, match=r"status\.storedVersions\[0\]: Invalid value: \"v1\": missing from spec\.versions"
    ):
        await client.patch(CUSTOMRESOURCEDEFINITIONS, NAME, {"spec": spec})
