"""OpenAPI documents of custom resources, and what kubectl makes of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cluster import Cluster, eventually, requirement, shows
from connections import send
from definitions import ANYTHING, definition, served, unique_group
from objects import replace

from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import JSON

pytest_plugins = ["cluster_fixture"]

_TEXT: Object = {"type": "string"}


def _object(description: str, **properties: Object) -> Object:
    return {"type": "object"} | ({"description": description} if description else {}) | {"properties": properties}


def _list(description: str, items: Object) -> Object:
    return {"type": "array", "description": description, "items": items}


def _described(description: str, **more: Any) -> Object:
    return _TEXT | {"description": description} | more


_BAR = _object(
    "",
    name=_described("Name of Bar."),
    age=_described("Age of Bar."),
    feeling=_described("Whether Bar is feeling great.", enum=["Great", "Down"]),
    bazs=_list("List of Bazs.", _TEXT),
) | {"required": ["name"]}
_STATUS_BAR = _object(
    "",
    name=_described("Name of Bar."),
    available={"type": "boolean", "description": "Whether the Bar is installed."},
    quxType=_described("Indicates to external qux type.", pattern="in-tree|out-of-tree"),
)
_FOO = _object(
    "Foo CRD for Testing",
    spec=_object("Specification of Foo", bars=_list("List of Bars and their specs.", _BAR)),
    status=_object("Status of Foo", bars=_list("List of Bars and their statuses.", _STATUS_BAR)),
)
_DUMMY: Object = {"type": "object", "description": "Dummy property."}
_SPEC = _object("Specification of Waldo", dummy=_DUMMY)
_WALDO = _object(
    "Waldo CRD for Testing",
    spec=_SPEC,
    status=_object("Status of Waldo", bars=_list("List of Bars and their statuses.", {"type": "object"})),
)
_PRESERVED = {"x-kubernetes-preserve-unknown-fields": True}
_AT_ROOT = _WALDO | {"description": "preserve-unknown-properties at root for Testing"} | _PRESERVED
_NESTED = _WALDO | {"description": "preserve-unknown-properties in nested field for Testing"}
_NESTED = _NESTED | {"properties": _WALDO["properties"] | {"spec": _SPEC | _PRESERVED}}


async def _published(cluster: Cluster, resource: ResourceType, version: str) -> Object | None:
    """A version's schema in /openapi/v2, without what every kind has, and that /openapi/v3 has it too; or None."""
    status, document = await send(cluster, "GET", "/openapi/v2")
    assert status == 200
    domain = ".".join(reversed(resource.group.split(".")))
    name = f"{domain}.{version}.{resource.kind}"
    found: Object | None = document["definitions"].get(name)
    status, third = await send(cluster, "GET", f"/openapi/v3/apis/{resource.group}/{version}")
    if found is None:
        assert status == 404 or name not in third["components"]["schemas"]
        return None
    assert name in third["components"]["schemas"]
    properties = {
        key: each for key, each in found.get("properties", {}).items() if key not in ("apiVersion", "kind", "metadata")
    }
    kept = {key: value for key, value in found.items() if key not in ("properties", "x-kubernetes-group-version-kind")}
    return kept | {"properties": properties}


async def _has(cluster: Cluster, resource: ResourceType, **schemas: Object | None) -> None:
    """Wait until these versions are published with these schemas, or not at all."""
    for version, schema in schemas.items():

        async def as_wanted() -> bool:
            return await _published(cluster, resource, version) == schema  # noqa: B023

        await eventually(as_wanted, f"{resource.kind} {version} is published as it should")


def _custom(resource: ResourceType, fields: str) -> str:
    head = f'"kind":"{resource.kind}","apiVersion":"{resource.api_version}","metadata":{{"name":"test"}}'
    return f"{{{head},{fields}}}"


async def _accepted(cluster: Cluster, resource: ResourceType, fields: str) -> None:
    for verb in ("create", "apply"):
        await cluster.kubectl(verb, "-f", "-", stdin=_custom(resource, fields))
        await cluster.kubectl("delete", resource.plural, "test")


async def _rejected(cluster: Cluster, resource: ResourceType, fields: str, told: str) -> None:
    for verb in ("create", "apply"):
        said = await cluster.kubectl(verb, "-f", "-", stdin=_custom(resource, fields), check=False)
        assert told in said


async def _explained(cluster: Cluster, name: str, pattern: str) -> None:
    async def matches() -> bool:
        return bool(re.search(pattern, await cluster.kubectl("explain", name, check=False), re.DOTALL))

    await eventually(matches, f"{name} is explained by {pattern}")


@requirement(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema [Conformance]"
)
async def test_with_a_schema(cluster: Cluster) -> None:
    async with served(cluster, definition(schema=_FOO)) as resource:
        await _has(cluster, resource, v1=_FOO)
        plural = resource.plural
        await _accepted(cluster, resource, '"spec":{"bars":[{"name":"test-bar"}]}')
        await _rejected(
            cluster,
            resource,
            '"spec":{"bars":[{"name":"test-bar","feeling":"NonExistentValue"}]}',
            'Unsupported value: "NonExistentValue"',
        )
        await _rejected(cluster, resource, '"spec":{"foo":true}', 'unknown field "spec.foo"')
        await _rejected(cluster, resource, '"spec":{"bars":[{"age":"10"}]}', "spec.bars[0].name: Required value")
        described = r"FIELDS:.*apiVersion.*<string>.*APIVersion defines.*spec.*<Object>.*Specification of Foo"
        await _explained(cluster, plural, "DESCRIPTION:.*Foo CRD for Testing.*" + described)
        described = r"FIELDS:.*creationTimestamp.*<string>.*CreationTimestamp is a timestamp"
        await _explained(cluster, f"{plural}.metadata", "DESCRIPTION:.*Standard object's metadata.*" + described)
        described = r"DESCRIPTION:.*Specification of Foo.*FIELDS:.*bars.*<\[\]Object>.*List of Bars and their specs"
        await _explained(cluster, f"{plural}.spec", described)
        described = r"FIELD.*:.*bars.*<\[\]Object>.*DESCRIPTION:.*List of Bars and their specs.*"
        fields = r"FIELDS:.*bazs.*<\[\]string>.*List of Bazs.*name.*<string>.*Name of Bar"
        await _explained(cluster, f"{plural}.spec.bars", described + fields)
        said = await cluster.kubectl("explain", f"{plural}.spec.bars2", check=False)
        assert 'field "bars2" does not exist' in said


@pytest.mark.parametrize(
    ("schema", "fields", "pattern"),
    [
        shows(
            ANYTHING,
            '"a":{"b":[{"c":"d"}]}',
            r"DESCRIPTION:.*<empty>",
            name="[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema [Conformance]",
        ),
        shows(
            _AT_ROOT,
            '"a":{"b":[{"c":"d"}]}',
            r"KIND:.*E2etest",
            name="[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root [Conformance]",
        ),
        shows(
            _NESTED,
            '"spec":{"b":[{"c":"d"}]}',
            r"DESCRIPTION:.*preserve-unknown-properties in nested field for Testing",
            name="[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object [Conformance]",
        ),
    ],
)
async def test_unknown_fields_are_taken(cluster: Cluster, schema: Object, fields: str, pattern: str) -> None:
    async with served(cluster, definition(schema=schema)) as resource:

        async def published() -> bool:
            return await _published(cluster, resource, "v1") is not None

        await eventually(published, "the kind is published")
        await _accepted(cluster, resource, fields)
        await _explained(cluster, resource.plural, pattern)


@pytest.mark.parametrize(
    ("groups", "versions"),
    [
        shows(
            2,
            ("v1", "v1beta1"),
            name="[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups [Conformance]",
        ),
        shows(
            1,
            ("v4", "v5"),
            name="[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions [Conformance]",
        ),
        shows(
            1,
            ("v6", "v6"),
            name="[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds [Conformance]",
        ),
    ],
)
async def test_several_definitions(cluster: Cluster, groups: int, versions: tuple[str, str]) -> None:
    group = unique_group()
    another = group if groups == 1 else unique_group()
    async with (
        served(cluster, definition(versions[0], schema=_FOO, group=group)) as foo,
        served(cluster, definition(versions[1], schema=_WALDO, group=another)) as waldo,
    ):
        await _has(cluster, waldo, **{versions[1]: _WALDO})
        await _has(cluster, foo, **{versions[0]: _FOO})
        if versions[0] != versions[1] and groups == 1:
            async with served(cluster, definition("v2", "v3", schema=_FOO)) as both:
                await _has(cluster, both, v3=_FOO, v2=_FOO)


@requirement(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed [Conformance]"
)
async def test_version_is_renamed(cluster: Cluster) -> None:
    async with served(cluster, definition("v2", "v3", schema=_FOO)) as resource:
        await _has(cluster, resource, v3=_FOO, v2=_FOO)
        where = "/spec/versions/1/name"
        patch = [{"op": "test", "path": where, "value": "v3"}, {"op": "replace", "path": where, "value": "v4"}]
        await cluster.patch(CUSTOMRESOURCEDEFINITIONS, resource.group_resource, patch, content_type=JSON)
        await _has(cluster, resource, v4=_FOO, v3=None, v2=_FOO)


@requirement(
    "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served [Conformance]"
)
async def test_version_is_no_longer_served(cluster: Cluster) -> None:
    async with served(cluster, definition("v5", "v6alpha1", schema=_FOO)) as resource:
        await _has(cluster, resource, v6alpha1=_FOO, v5=_FOO)

        def not_served(found: Object) -> None:
            found["spec"]["versions"][1]["served"] = False

        await replace(cluster, CUSTOMRESOURCEDEFINITIONS, resource.group_resource, not_served)
        await _has(cluster, resource, v6alpha1=None, v5=_FOO)
