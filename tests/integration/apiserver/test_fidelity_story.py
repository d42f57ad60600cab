"""What clients of the built-in kinds rely on, end to end: patches and refusals, scale, PUT that creates, Tables."""

import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from controlplane.apiserver.testing import running_apiserver

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
CORE, APPS = "/api/v1/namespaces/default", "/apis/apps/v1/namespaces/default"
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
SELECTOR = {"matchLabels": {"a": "b"}}


class Api:
    """Asks, and gives (status, body); keeps the warnings of the last answer."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.warnings: Sequence[str] = ()

    async def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", accept: str = ""
    ) -> tuple[int, Any]:
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        headers = {"Content-Type": kind, "Accept": accept or "application/json"}
        async with self._session.request(method, self._url + path, data=data, headers=headers) as answer:
            self.warnings = answer.headers.getall("Warning", [])
            return answer.status, await answer.json()


@asynccontextmanager
async def connected() -> AsyncIterator[Api]:
    async with running_apiserver() as server:
        context = ssl.create_default_context(cadata=server.ca.decode())
        connector = aiohttp.TCPConnector(ssl=context)
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            yield Api(session, server.url)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with connected() as api:
        yield api


def named(kind: str, version: str = "v1", name: str = "x", **rest: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}


async def test_a_patched_object_that_can_not_be_is_shown_as_go_prints_it(api: Api) -> None:
    await api.ask("POST", f"{CORE}/configmaps", named("ConfigMap", data={"b": "1", "a": "2"}))
    status, refused = await api.ask("PATCH", f"{CORE}/configmaps/x", {"data": "x"}, kind=MERGE)
    assert status == 422
    assert refused["message"].startswith(
        ' "" is invalid: patch: Invalid value: "{\\"apiVersion\\":\\"v1\\",\\"data\\":\\"x\\",'
        '\\"kind\\":\\"ConfigMap\\",\\"metadata\\":{\\"name\\":\\"x\\",\\"namespace\\":\\"default\\",\\"uid\\":'
    )
    assert refused["message"].endswith(
        "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string"
    )
    assert set(refused["details"]) == {"causes"}
    for patch, told in (
        ({"kind": "Secret"}, "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        ({"apiVersion": "v2"}, 'no kind "ConfigMap" is registered for version "v2" in scheme'),
    ):
        status, refused = await api.ask("PATCH", f"{CORE}/configmaps/x", patch, kind=MERGE)
        assert status == 422
        assert told in refused["message"]
    # a strategic patch fills in a struct: what it calls itself does not matter, what does not fit does
    status, _ = await api.ask("PATCH", f"{CORE}/configmaps/x", {"kind": "Secret"}, kind=STRATEGIC)
    assert status == 200
    status, refused = await api.ask("PATCH", f"{CORE}/configmaps/x", {"data": {"a": 1}}, kind=STRATEGIC)
    assert (status, refused["message"]) == (
        422,
        ' "" is invalid: patch: Invalid value: "map[data:map[a:1]]": cannot convert int64 to string',
    )


async def test_keys_that_come_twice_in_yaml(api: Api) -> None:
    text = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  k: "1"\n  k: "2"\n'
    status, made = await api.ask("POST", f"{CORE}/configmaps", text, kind="application/yaml")
    assert (status, made["data"]) == (201, {"k": "2"})
    assert api.warnings == ['299 - "line 7: key \\"k\\" already set in map"']
    path = f"{CORE}/configmaps/x?fieldManager=m&fieldValidation=Strict"
    status, refused = await api.ask("PATCH", path, text, kind=APPLY)
    assert (status, refused["message"]) == (
        400,
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n"
        '  line 7: key "k" already set in map',
    )
    status, refused = await api.ask("PATCH", f"{CORE}/configmaps/x?fieldManager=m", "[]", kind=APPLY)
    assert (status, refused["message"]) == (
        400,
        "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go "
        "value of type map[string]interface {}",
    )


async def test_who_owns_the_replicas_owns_them_in_the_scale(api: Api) -> None:
    spec = {"replicas": 2, "selector": SELECTOR, "template": TEMPLATE}
    deployment = named("Deployment", "apps/v1", spec=spec)
    path = f"{APPS}/deployments/x"
    status, _ = await api.ask("PATCH", f"{path}?fieldManager=a", deployment, kind=APPLY)
    assert status == 201
    scale = named("Scale", "autoscaling/v1", spec={"replicas": 3})
    status, refused = await api.ask("PATCH", f"{path}/scale?fieldManager=b", scale, kind=APPLY)
    assert (status, refused["message"]) == (
        409,
        'Apply failed with 1 conflict: conflict with "a": .spec.replicas',
    )
    status, made = await api.ask("PATCH", f"{path}/scale?fieldManager=b&force=true", scale, kind=APPLY)
    assert (status, made["spec"]) == (200, {"replicas": 3})
    _, now = await api.ask("GET", path)
    owners = {
        (entry["manager"], entry.get("subresource", ""))
        for entry in now["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }
    assert owners == {("b", "scale")}
    _, table = await api.ask("GET", f"{path}/scale", accept=TABLE)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    stranger = {**scale, "metadata": {"name": "x", "uid": "00000000-0000-0000-0000-000000000000"}}
    status, refused = await api.ask("PUT", f"{path}/scale", stranger)
    assert status == 409
    assert refused["message"].startswith('Operation cannot be fulfilled on deployments/scale.apps "x": Precondition')


async def test_a_service_is_created_by_put_even_through_its_status(api: Api) -> None:
    service = named("Service", spec={"ports": [{"port": 80}]})
    status, made = await api.ask("PUT", f"{CORE}/services/x", service)
    assert status == 201
    assert made["spec"]["clusterIP"]
    status, made = await api.ask("PUT", f"{CORE}/services/y/status", named("Service", name="y", spec=service["spec"]))
    assert status == 201
    assert "clusterIP" not in made["spec"]


async def test_a_daemon_sets_template_is_counted_where_clients_can_not_write(api: Api) -> None:
    path, key = f"{APPS}/daemonsets/x", "deprecated.daemonset.template.generation"
    daemon_set = named("DaemonSet", "apps/v1", spec={"selector": SELECTOR, "template": TEMPLATE})
    await api.ask("POST", f"{APPS}/daemonsets", daemon_set)
    _, told = await api.ask("PUT", f"{path}/status", daemon_set)
    assert told["metadata"]["annotations"] == {key: "1"}
    _, table = await api.ask("GET", path, accept=TABLE)
    assert "annotations" not in table["rows"][0]["object"]["metadata"]
    change = {"spec": {"template": {"metadata": {"labels": {"c": "d"}}}}, "metadata": {"annotations": {key: "9"}}}
    _, told = await api.ask("PATCH", path, change, kind=STRATEGIC)
    assert told["metadata"]["annotations"] == {key: "2"}


async def test_old_kinds_say_so(api: Api) -> None:
    await api.ask("GET", f"{CORE}/endpoints")
    assert api.warnings == ['299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"']


async def test_a_part_that_was_sent_with_white_space_changes_when_it_is_patched(api: Api) -> None:
    path = "/apis/resource.k8s.io/v1/deviceclasses"
    config = [{"opaque": {"driver": "d.example.com", "parameters": {"a": 1}}}]
    body = named("DeviceClass", "resource.k8s.io/v1", spec={"config": config})
    label = {"metadata": {"labels": {"l": "1"}}}
    for text, generations in ((json.dumps(body), [1, 2, 2]), (json.dumps(body, separators=(",", ":")), [1, 1, 1])):
        _, made = await api.ask("POST", path, text)
        found = [made["metadata"]["generation"]]
        for value in ("1", "2"):
            label["metadata"]["labels"]["l"] = value
            _, told = await api.ask("PATCH", f"{path}/x", label, kind=MERGE)
            found.append(told["metadata"]["generation"])
        assert found == generations
        assert told["spec"]["config"] == config
        await api.ask("DELETE", f"{path}/x")


async def test_deleting_a_job_tells_of_the_pods_it_leaves(api: Api) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    jobs = "/apis/batch/v1/namespaces/default/jobs"
    status, made = await api.ask("POST", jobs, named("Job", "batch/v1", spec={"template": {"spec": pod}}))
    assert (status, made["metadata"]["labels"]["job-name"]) == (201, "x")
    await api.ask("DELETE", f"{jobs}/x?propagationPolicy=Background")
    assert not api.warnings
    await api.ask("POST", jobs, named("Job", "batch/v1", name="y", spec={"template": {"spec": pod}}))
    await api.ask("DELETE", f"{jobs}/y")
    assert "child pods are preserved by default when jobs are deleted" in api.warnings[0]


async def test_every_version_of_a_kind_prints_alike(api: Api) -> None:
    target = {"kind": "Deployment", "name": "d"}
    spec = {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}
    path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
    await api.ask("POST", path.format("v1"), named("HorizontalPodAutoscaler", "autoscaling/v1", spec=spec))
    cells = []
    for version in ("v1", "v2"):
        _, table = await api.ask("GET", path.format(version) + "/x", accept=TABLE)
        cells.append(table["rows"][0]["cells"])
    assert cells[0] == cells[1]
    assert "cpu: <unknown>/50%" in cells[0]
