"""Objects along the schema of every kind, with wrong values in them: refused or taken, and never a 500.

HYPOTHESIS examples are the same in each run; NAVARCH_FUZZ_EXAMPLES makes more of them, others each time.
"""

from __future__ import annotations

import json
import random

from fuzzed_server import FuzzedServer, is_defect
from fuzzing import CHANCES, bounded
from hostile import HOSTILE, STRINGS, an_object
from hypothesis import given
from hypothesis import strategies as st

from machinery.api import catalogue
from machinery.api.resource import ResourceType

pytest_plugins = ["fuzzed_fixture"]

# A Binding that is not valid is answered with 500 by upstream, too (BindingREST.Create).
CREATED = [r for r in catalogue.BUILT_IN if "create" in r.verbs and r != catalogue.BINDINGS]
# Those of which one object may change how requests for others are answered.
RULING = {
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "flowcontrol.apiserver.k8s.io",
}
PLAIN = [r for r in CREATED if "get" in r.verbs and r.group not in RULING and r.plural != "namespaces"]
FORMS = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
)
JSON = {"Content-Type": "application/json"}


def refused_or_taken(server: FuzzedServer, method: str, path: str, body: bytes, content: str) -> int:
    status, text = server.request(method, path, body, {"Content-Type": content})
    assert not is_defect(status, text), (method, path, body, text)
    return status


@given(resource=st.sampled_from(CREATED), chance=CHANCES)
@bounded(400)
def test_dry_runs_write_nothing(server: FuzzedServer, resource: ResourceType, chance: random.Random) -> None:
    body = json.dumps(an_object(resource, chance, "fuzz")).encode()
    before = server.written()
    validation = chance.choice(("Strict", "Warn", "Ignore"))
    path = f"{resource.path('default')}?dryRun=All&fieldValidation={validation}"
    refused_or_taken(server, "POST", path, body, "application/json")
    assert server.written() == before


@given(resource=st.sampled_from(PLAIN), chance=CHANCES)
@bounded(300)
def test_what_is_taken_can_be_read_and_deleted(
    server: FuzzedServer, resource: ResourceType, chance: random.Random
) -> None:
    body = json.dumps(an_object(resource, chance, "fuzz")).encode()
    before = server.written()
    status = refused_or_taken(server, "POST", resource.path("default"), body, "application/json")
    if status != 201:
        assert server.written() == before
        return
    one = resource.path("default", "fuzz")
    for form in FORMS:
        for path, accept in ((one, form), (resource.path("default"), form.replace("Metadata;", "MetadataList;"))):
            status, text = server.request("GET", path, headers={"Accept": accept})
            assert status == 200, (path, accept, body, text)
    _, again = server.request("GET", one)
    assert refused_or_taken(server, "PUT", one, again, "application/json") in (200, 422)
    status, text = server.request("DELETE", one + "?gracePeriodSeconds=0")
    assert status in (200, 202), (one, text)
    assert server.request("GET", one)[0] == 404


@given(chance=CHANCES)
@bounded(250)
def test_patches_of_any_kind(server: FuzzedServer, chance: random.Random) -> None:
    resource = chance.choice([catalogue.PODS, catalogue.DEPLOYMENTS, catalogue.SERVICES, catalogue.CONFIGMAPS])
    server.request("POST", resource.path("default"), json.dumps(GOOD[resource]).encode(), JSON)
    content, patch = chance.choice(
        [
            ("application/json-patch+json", json_patch(chance)),
            ("application/merge-patch+json", an_object(resource, chance, "good")),
            ("application/strategic-merge-patch+json", with_directives(an_object(resource, chance, "good"), chance)),
            ("application/apply-patch+yaml", an_object(resource, chance, "good")),
        ]
    )
    subresource = chance.choice(("", "", "", "status", "scale", "resize", "ephemeralcontainers"))
    path = f"{resource.path('default', 'good', subresource)}?fieldManager=fuzz&force={chance.choice(('true', 'false'))}"
    if content != "application/apply-patch+yaml":
        path = path.partition("&")[0]
    refused_or_taken(server, "PATCH", path, json.dumps(patch).encode(), content)


CONTAINERS = [{"name": "c", "image": "x", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}]}]
META = {"name": "good", "labels": {"a": "b"}}
GOOD = {
    catalogue.PODS: {"metadata": META, "spec": {"containers": CONTAINERS}},
    catalogue.DEPLOYMENTS: {
        "metadata": META,
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": CONTAINERS}},
        },
    },
    catalogue.SERVICES: {"metadata": META, "spec": {"ports": [{"port": 80}]}},
    catalogue.CONFIGMAPS: {"metadata": META, "data": {"a": "b"}},
}


def json_patch(chance: random.Random) -> object:
    def pointer() -> object:
        steps = (
            "metadata",
            "spec",
            "labels",
            "containers",
            "0",
            "-",
            "name",
            "~1",
            "~",
            "",
            "data",
            "a",
            "99999999999",
        )
        return chance.choice(["/" + "/".join(chance.choices(steps, k=chance.randrange(1, 5))), *HOSTILE])

    operations = ("add", "remove", "replace", "move", "copy", "test", "no")
    made = [
        {"op": chance.choice(operations), "path": pointer(), "from": pointer(), "value": chance.choice(HOSTILE)}
        for _ in range(chance.randrange(1, 4))
    ]
    return chance.choice([made, made, made, *HOSTILE])


def with_directives(patch: dict[str, object], chance: random.Random) -> object:
    directives = ("$patch", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers", "$retainKeys")
    for target in (patch, patch.get("spec"), patch.get("metadata")):
        if isinstance(target, dict) and chance.random() < 0.5:
            target[chance.choice(directives)] = chance.choice(
                [*HOSTILE, *STRINGS, "replace", "delete", "merge", ["name"], [{"name": "c"}]]
            )
    return patch
