"""The OpenAPI documents: complete, consistent, and readable in all their forms."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

from controlplane.apiserver.openapi import gnostic, roots, v2, v3
from controlplane.apiserver.openapi.definitions import Definitions, schema_name
from machinery.api.catalogue import BUILT_IN, DEPLOYMENTS, PODS
from machinery.api.resource import ResourceType


@cache
def documents() -> dict[tuple[str, str], dict[str, Any]]:
    definitions = Definitions()
    groups: dict[tuple[str, str], list[ResourceType]] = {}
    for resource in BUILT_IN:
        groups.setdefault((resource.group, resource.version), []).append(resource)
    return {group: v3.document(resources, definitions) for group, resources in groups.items()}


def schema(group: str, name: str) -> Any:
    return documents()[group, "v1"]["components"]["schemas"][name]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere() -> None:
    for document in documents().values():
        known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
        assert references(document) <= known


def test_every_resource_has_its_paths_and_every_operation_its_own_name() -> None:
    names = []
    for resource in BUILT_IN:
        paths = documents()[resource.group, resource.version]["paths"]
        assert resource.path("{namespace}") in paths or "list" not in resource.verbs
        for sub in resource.subresources:
            assert resource.path("{namespace}", "{name}", sub.name) in paths
    for document in documents().values():
        for item in document["paths"].values():
            names += [operation["operationId"] for key, operation in item.items() if key != "parameters"]
    assert len(names) == len(set(names))


def test_required_values_have_defaults_and_pointers_have_none() -> None:
    deployment = schema("apps", "io.k8s.api.apps.v1.DeploymentSpec")["properties"]
    assert deployment["template"]["default"] == {}
    assert "default" not in deployment["selector"]
    port = schema("", "io.k8s.api.core.v1.ContainerPort")["properties"]
    assert port["containerPort"] == {**port["containerPort"], "type": "integer", "format": "int32", "default": 0}
    assert port["protocol"]["enum"] == ["SCTP", "TCP", "UDP"]


def test_null_is_nowhere_a_type() -> None:
    assert '"null"' not in json.dumps([d["components"] for d in documents().values()])


def test_clients_can_see_that_dry_run_and_field_validation_exist() -> None:
    path = documents()["apps", "v1"]["paths"][DEPLOYMENTS.path("{namespace}", "{name}")]
    assert {"dryRun", "fieldValidation", "fieldManager", "force"} == {p["name"] for p in path["patch"]["parameters"]}
    assert path["patch"]["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}


def test_kubectl_can_see_that_custom_resources_take_no_strategic_patch() -> None:
    widgets = ResourceType("example.com", "v1", "widgets", "Widget")
    definitions = Definitions()
    for kind in (widgets.kind, widgets.list_kind):
        name = schema_name(replace(widgets, kind=kind))
        definitions.add(name, {"type": "object"}, (widgets.group, widgets.version, kind))
    custom = v3.document([widgets], definitions)["paths"][widgets.path("{namespace}", "{name}")]["patch"]
    built_in = documents()["apps", "v1"]["paths"][DEPLOYMENTS.path("{namespace}", "{name}")]["patch"]
    strategic = "application/strategic-merge-patch+json"
    assert set(built_in["requestBody"]["content"]) - set(custom["requestBody"]["content"]) == {strategic}


def test_version_2_refers_to_its_own_definitions() -> None:
    document = v2.document(documents().values())
    known = {f"#/definitions/{name}" for name in document["definitions"]}
    assert references(document) <= known
    post = document["paths"][PODS.path("{namespace}")]["post"]
    assert post["parameters"][0] == {
        "name": "body",
        "in": "body",
        "required": True,
        "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"},
    }


def fields(data: bytes) -> list[tuple[int, Any]]:
    """The fields of a protobuf message: (number, varint or bytes)."""
    found: list[tuple[int, Any]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            found.append((tag >> 3, varint()))
        else:
            assert tag & 7 == 2
            length = varint()
            found.append((tag >> 3, data[at : at + length]))
            at += length
    return found


def one(data: bytes, number: int) -> Any:
    values = [value for field, value in fields(data) if field == number]
    assert len(values) == 1
    return values[0]


def test_the_protobuf_form_holds_the_same_definitions() -> None:
    document = v2.document(documents().values())
    data = gnostic.encode(document)
    assert one(data, 1) == b"2.0"
    named = {one(entry, 1).decode(): one(entry, 2) for _, entry in fields(one(data, 9))}
    assert named.keys() == document["definitions"].keys()
    pod = named["io.k8s.api.core.v1.Pod"]
    properties = {one(entry, 1).decode() for _, entry in fields(one(pod, 25))}
    assert properties == {"apiVersion", "kind", "metadata", "spec", "status"}
    extension = one(one(pod, 31), 2)
    assert json.loads(one(extension, 2)) == [{"group": "", "kind": "Pod", "version": "v1"}]


def test_version_2_leaves_out_what_its_readers_would_misread() -> None:
    gvk = [{"group": "example.com", "kind": "Widget", "version": "v1"}]
    preserve = "x-kubernetes-preserve-unknown-fields"

    def told(**schema: Any) -> Any:
        whole = {"info": {}, "paths": {}, "components": {"schemas": {"x": {"type": "object", **schema}}}}
        return v2.document([whole], ["x"])["definitions"]["x"]

    text = {"type": "string"}
    assert told(
        **{preserve: True}, properties={"a": text}, description="d", **{"x-kubernetes-group-version-kind": gvk}
    ) == {"type": "object", "x-kubernetes-group-version-kind": gvk}
    inner = {"type": "object", preserve: True, "properties": {"a": text}}
    assert told(properties={"spec": inner})["properties"]["spec"] == {preserve: True}
    listed = {"type": "array", "items": text, preserve: True}
    assert told(properties={"spec": listed})["properties"]["spec"] == {preserve: True}
    embedded = {"x-kubernetes-embedded-resource": True}
    whole = told(properties={"spec": {**inner, **embedded, "required": ["kind", "apiVersion"]}})
    assert whole["properties"]["spec"] == {preserve: True, **embedded}
    nullable = {"type": "object", "nullable": True, "properties": {"a": text}}
    assert told(properties={"spec": nullable, "a": text}, required=["spec", "a"]) == {
        "type": "object",
        "properties": {"spec": {}, "a": text},
        "required": ["a"],
    }
    assert told(oneOf=[{"required": ["a"]}], anyOf=[], **{"not": {}}) == {"type": "object"}


def test_roots_have_documents_of_their_own() -> None:
    found = roots.roots(["apps", "rbac.authorization.k8s.io"])
    made = {path: roots.document(path, root, Definitions()) for path, root in found.items()}
    names = {path: made[path]["paths"][f"/{path}/"]["get"]["operationId"] for path in made}
    assert names == {
        ".well-known/openid-configuration": "getServiceAccountIssuerOpenIDConfiguration",
        "api": "getCoreAPIVersions",
        "apis": "getAPIVersions",
        "apis/apps": "getAppsAPIGroup",
        "apis/rbac.authorization.k8s.io": "getRbacAuthorizationAPIGroup",
        "openid/v1/jwks": "getServiceAccountIssuerOpenIDKeyset",
        "version": "getCodeVersion",
    }
    for document in made.values():
        known = {f"#/components/schemas/{name}" for name in document["components"].get("schemas", {})}
        assert references(document) <= known
