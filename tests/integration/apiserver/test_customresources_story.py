"""A CustomResourceDefinition comes, is used, is described, and goes with all its objects."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controlplane.apiserver.admission import factory as admission
from controlplane.apiserver.testing import running_apiserver
from machinery.api import meta
from machinery.api.catalogue import (
    CUSTOMRESOURCEDEFINITIONS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)
from machinery.api.resource import ResourceType
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import (
    BadRequest,
    Invalid,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    UnsupportedMediaType,
)

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
SHIPS = ResourceType("fleet.example.com", "v1", "ships", "Ship")
NAME = "ships.fleet.example.com"


def definition() -> dict[str, Any]:
    crew = {"type": "integer", "minimum": 1, "default": 3}
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["port"],
                "properties": {"crew": crew, "port": {"type": "string"}},
                "x-kubernetes-validations": [
                    {"rule": "self.port != 'Hades' || self.crew > 90", "message": "nobody goes there alone"},
                    {"rule": "oldSelf.port != 'Ithaca' || self.port == 'Ithaca'", "fieldPath": ".port"},
                ],
            },
            "status": {"type": "object", "properties": {"afloat": {"type": "integer"}}},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.afloat"},
        },
        "additionalPrinterColumns": [{"name": "Crew", "type": "integer", "jsonPath": ".spec.crew"}],
    }
    names = {"plural": "ships", "kind": "Ship", "shortNames": ["sh"]}
    spec = {"group": "fleet.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": spec,
    }


def ship(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "fleet.example.com/v1", "kind": "Ship", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with (
        running_apiserver(factories=(admission.build,)) as server,
        Client(ClientConfig(server.url, ca_data=server.ca, token=server.token), user_agent="test") as client,
    ):
        await client.create(CUSTOMRESOURCEDEFINITIONS, definition())
        async with asyncio.timeout(5):
            async for event in client.watch(CUSTOMRESOURCEDEFINITIONS, field_selector=f"metadata.name={NAME}"):
                established = meta.condition((event.object.get("status") or {}).get("conditions"), "Established")
                if established is not None and established["status"] == "True":
                    break
        yield client


async def _gone(client: Client) -> None:
    """Until the definition is not there any more."""
    while True:
        try:
            await client.get(CUSTOMRESOURCEDEFINITIONS, NAME)
        except NotFound:
            return
        await asyncio.sleep(0.02)


async def test_objects_are_defaulted_pruned_validated_and_counted(client: Client) -> None:
    made = await client.create(SHIPS, ship("argo", port="Iolcos", sails=2), "default")
    assert made["spec"] == {"crew": 3, "port": "Iolcos"}
    assert made["metadata"]["generation"] == 1
    with pytest.raises(Invalid, match=r"spec\.crew in body should be greater than or equal to 1"):
        await client.create(SHIPS, ship("ghost", port="Nowhere", crew=0), "default")
    with pytest.raises(Invalid, match=r"spec\.port: Required value"):
        await client.create(SHIPS, ship("lost"), "default")
    patched = await client.patch(SHIPS, "argo", {"spec": {"crew": 50}, "status": {"afloat": 9}}, "default")
    assert patched["metadata"]["generation"] == 2
    assert "status" not in patched, "only the status subresource writes it"
    told = await client.patch(SHIPS, "argo", {"status": {"afloat": 9}}, "default", subresource="status")
    assert (told["status"], told["metadata"]["generation"]) == ({"afloat": 9}, 2)


async def test_rules_are_kept_at_creation_and_at_every_change(client: Client) -> None:
    with pytest.raises(
        Invalid, match=r'Ship\.fleet\.example\.com "styx" is invalid: spec: Invalid value: "object": nobody'
    ):
        await client.create(SHIPS, ship("styx", port="Hades"), "default")
    await client.create(SHIPS, ship("odyssey", port="Ithaca"), "default")
    with pytest.raises(
        Invalid, match=r"spec\.port: Invalid value: .* failed rule: oldSelf\.port != 'Ithaca' \|\| self"
    ):
        await client.patch(SHIPS, "odyssey", {"spec": {"port": "Troy"}}, "default")
    assert (await client.patch(SHIPS, "odyssey", {"spec": {"crew": 12}}, "default"))["spec"]["crew"] == 12
    broken = definition()
    broken["metadata"]["name"] = "rafts.fleet.example.com"
    broken["spec"]["names"] = {"plural": "rafts", "kind": "Raft"}
    schema = broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["x-kubernetes-validations"][0]["rule"] = "self.oars > 1"
    with pytest.raises(Invalid, match=r"compilation failed: ERROR: <input>:1:5: undefined field 'oars'"):
        await client.create(CUSTOMRESOURCEDEFINITIONS, broken)


async def test_it_scales_and_prints_as_the_definition_says(client: Client) -> None:
    await client.create(SHIPS, ship("argo", port="Iolcos"), "default")
    await client.patch(SHIPS, "argo", {"spec": {"replicas": 7}}, "default", subresource="scale")
    assert (await client.get(SHIPS, "argo", "default"))["spec"]["crew"] == 7
    table = await client.request("GET", SHIPS.path("default"), headers=TABLE)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Crew"]
    assert table["rows"][0]["cells"] == ["argo", 7]


async def test_discovery_and_openapi_know_it(client: Client) -> None:
    found = await client.request("GET", "/apis/fleet.example.com/v1")
    assert {r["name"] for r in found["resources"]} == {"ships", "ships/status", "ships/scale"}
    document = await client.request("GET", "/openapi/v3/apis/fleet.example.com/v1")
    schema = document["components"]["schemas"]["com.example.fleet.v1.Ship"]
    assert schema["properties"]["spec"]["properties"]["crew"]["default"] == 3
    assert schema["x-kubernetes-group-version-kind"] == [
        {"group": "fleet.example.com", "kind": "Ship", "version": "v1"}
    ]


async def test_it_goes_with_all_its_objects(client: Client) -> None:
    for name in ("argo", "pequod"):
        await client.create(SHIPS, ship(name, port="Nantucket"), "default")
    await client.delete(CUSTOMRESOURCEDEFINITIONS, NAME)
    async with asyncio.timeout(10):
        await _gone(client)
    with pytest.raises(NotFound):
        await client.list(SHIPS)
    await client.create(CUSTOMRESOURCEDEFINITIONS, definition())
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await client.list(SHIPS)).items == [], "what was deleted does not come back"
                break
            except NotFound:
                await asyncio.sleep(0.02)


async def test_there_is_no_protobuf_and_no_strategic_patch_of_it(client: Client) -> None:
    made = await client.create(SHIPS, ship("argo", port="Iolcus", crew=50.0), "default")
    assert str(made["spec"]["crew"]) == "50", "a number is told as Go tells it"
    path = "/apis/fleet.example.com/v1/namespaces/default/ships"
    protobuf = "application/vnd.kubernetes.protobuf"
    found = await client.request("GET", f"{path}/argo", headers={"Accept": f"{protobuf},application/json"})
    assert found["spec"]["crew"] == 50
    with pytest.raises(NotAcceptable, match="only the following media types are accepted"):
        await client.request("GET", f"{path}/argo", headers={"Accept": protobuf})
    told = "the body of the request was in an unknown format - accepted media types include: "
    told += "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    with pytest.raises(UnsupportedMediaType) as refused:
        await client.patch(SHIPS, "argo", {}, "default", content_type="application/strategic-merge-patch+json")
    assert refused.value.message == told
    with pytest.raises(
        MethodNotAllowed, match=r'^update is not supported on resources of kind "ships\.fleet\.example\.com"$'
    ):
        await client.request("PUT", path, body=made)
    with pytest.raises(NotFound, match="404 page not found"):
        await client.request("POST", "/apis/fleet.example.com/v1/ships", body=made)
    with pytest.raises(BadRequest, match="Object 'Kind' is missing in"):
        await client.request("POST", path, body={"metadata": {"name": "x"}})


async def test_what_a_later_schema_does_not_know_is_pruned(client: Client) -> None:
    ports = definition()
    ports["metadata"]["name"] = "ports.fleet.example.com"
    ports["spec"]["names"] = {"plural": "ports", "kind": "Port"}
    version = ports["spec"]["versions"][0]
    text = {"type": "string"}
    spec = {"type": "object", "properties": {"sea": text, "land": text}}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    version["subresources"] = {}
    version.pop("additionalPrinterColumns")
    made = await client.create(CUSTOMRESOURCEDEFINITIONS, ports)
    kind = ResourceType("fleet.example.com", "v1", "ports", "Port")
    port = ship("ithaca", sea="Ionian", land="Greece") | {"kind": "Port"}
    async with asyncio.timeout(10):
        while True:
            try:
                await client.create(kind, port, "default")
                break
            except NotFound:
                await asyncio.sleep(0.02)
        made = await client.get(CUSTOMRESOURCEDEFINITIONS, "ports.fleet.example.com")
        del made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["land"]
        await client.update(CUSTOMRESOURCEDEFINITIONS, made)
        while True:
            if (await client.get(kind, "ithaca", "default"))["spec"] == {"sea": "Ionian"}:
                break
            await asyncio.sleep(0.02)


async def test_nothing_new_comes_while_it_goes(client: Client) -> None:
    rule = {"operations": ["DELETE"], "apiGroups": ["fleet.example.com"], "apiVersions": ["*"], "resources": ["ships"]}
    webhook = {
        "name": "nobody.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    await client.create(VALIDATINGWEBHOOKCONFIGURATIONS, {"metadata": {"name": "nobody"}, "webhooks": [webhook]})
    held = ship("argo", port="Iolcus")
    held["metadata"]["finalizers"] = ["example.com/held"]
    made = await client.create(SHIPS, held, "default")
    await client.delete(CUSTOMRESOURCEDEFINITIONS, NAME)
    with pytest.raises(MethodNotAllowed, match=r"^create not allowed while custom resource definition is terminating$"):
        await client.create(SHIPS, ship("pequod", port="Nantucket"), "default")
    async with asyncio.timeout(10):
        while not meta.is_deleting(made):
            await asyncio.sleep(0.02)
            made = await client.get(SHIPS, "argo", "default")
        made["metadata"]["finalizers"] = []
        await client.update(SHIPS, made)
        await _gone(client)


async def test_what_a_policy_adds_is_pruned_and_defaulted(client: Client) -> None:
    add = '[JSONPatch{op: "add", path: "/spec/sails", value: 2}, JSONPatch{op: "remove", path: "/spec/crew"}]'
    rule = {"operations": ["CREATE", "UPDATE"], "apiGroups": ["fleet.example.com"], "apiVersions": ["v1"]}
    policy = {
        "matchConstraints": {"resourceRules": [rule | {"resources": ["ships"]}]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": add}}],
        "reinvocationPolicy": "Never",
    }
    await client.create(MUTATINGADMISSIONPOLICIES, {"metadata": {"name": "sails"}, "spec": policy})
    bound = {"policyName": "sails"}
    await client.create(MUTATINGADMISSIONPOLICYBINDINGS, {"metadata": {"name": "sails"}, "spec": bound})
    async with asyncio.timeout(10):
        for number in itertools.count():  # until the policy is in force: it lets every crew go
            made = await client.create(SHIPS, ship(f"argo-{number}", port="Iolcos", crew=50), "default")
            assert "sails" not in made["spec"]
            if made["spec"]["crew"] == 3:
                break
    changed = await client.patch(SHIPS, made["metadata"]["name"], {"spec": {"crew": 60}}, "default")
    assert changed["spec"] == {"port": "Iolcos", "crew": 3}
