"""Events, by both of their APIs."""

from __future__ import annotations

from dataclasses import replace as altered

import pytest
from cluster import Cluster, requirement, shows
from objects import delete_collection
from operations import contains

from machinery.api.catalogue import EVENTS
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

EVENTS_V1 = altered(EVENTS, group="events.k8s.io")
"""The same objects by the newer API."""


def old_event(cluster: Cluster, name: str, label: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {label: "true"}},
        "message": f"This is {name}",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "involvedObject": {"namespace": cluster.namespace},
    }


def new_event(cluster: Cluster, name: str, label: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {label: "true"}},
        "eventTime": "2017-09-19T13:49:16.000000Z",
        "note": f"This is {name}",
        "action": "Do",
        "reason": "Test",
        "type": "Normal",
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
        "regarding": {"namespace": cluster.namespace},
    }


async def is_listed(cluster: Cluster, resource: ResourceType, name: str, namespace: str) -> bool:
    found = await cluster.client.list(resource, namespace, label_selector="testevent-constant=true")
    return any(name_of(each) == name and each["metadata"]["namespace"] == cluster.namespace for each in found.items)


@requirement("[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]")
async def test_an_event_is_lived_through(cluster: Cluster) -> None:
    made = await cluster.create(EVENTS, old_event(cluster, "event-test", "testevent-constant"))
    assert await is_listed(cluster, EVENTS, "event-test", "")
    message = {"message": "This is a test event - patched"}
    await cluster.patch(EVENTS, "event-test", message, content_type=STRATEGIC)
    found = await cluster.get(EVENTS, "event-test")
    assert contains(found, message)
    series = {"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"}
    changed = without_marks(found) | {"series": series}
    await cluster.client.update(EVENTS, found | {"series": series})
    assert without_marks(await cluster.get(EVENTS, "event-test")) == changed
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    await cluster.client.delete(EVENTS, "event-test", cluster.namespace)
    assert not await is_listed(cluster, EVENTS, "event-test", "")


@requirement(
    "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]"
)
async def test_an_event_of_the_newer_api_is_lived_through(cluster: Cluster) -> None:
    client, name = cluster.client, "event-test"
    await cluster.create(EVENTS_V1, new_event(cluster, name, "testevent-constant"))
    for namespace in ("", cluster.namespace):
        assert await is_listed(cluster, EVENTS_V1, name, namespace)
    for resource, field in ((EVENTS, "source"), (EVENTS_V1, "reportingController")):
        chosen = await client.list(resource, cluster.namespace, field_selector=f"{field}=test-controller")
        assert [name_of(each) for each in chosen.items] == [name]
    before = await cluster.get(EVENTS_V1, name)
    series = {"series": {"count": 2, "lastObservedTime": "2017-09-19T13:49:11.000000Z"}}
    await cluster.patch(EVENTS_V1, name, series, content_type=STRATEGIC)  # by this API, nothing else of it may change
    assert without_marks(await cluster.get(EVENTS_V1, name)) == without_marks(before) | series
    changed = before | {"series": {"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"}}
    await client.update(EVENTS_V1, {**changed, "metadata": unversioned(changed["metadata"])})
    assert without_marks(await cluster.get(EVENTS_V1, name)) == without_marks(changed)
    await client.delete(EVENTS_V1, name, cluster.namespace)
    for namespace in ("", cluster.namespace):
        assert not await is_listed(cluster, EVENTS_V1, name, namespace)


def unversioned(metadata: Object) -> Object:
    return {key: value for key, value in metadata.items() if key not in ("resourceVersion", "managedFields")}


def without_marks(event: Object) -> Object:
    """The event without what the control plane changes with each write."""
    return {**event, "metadata": unversioned(event["metadata"])}


@pytest.mark.parametrize(
    ("resource", "event"),
    [
        shows(EVENTS, old_event, name="[sig-instrumentation] Events should delete a collection of events [Conformance]"),
        shows(EVENTS_V1, new_event, name="[sig-instrumentation] Events API should delete a collection of events [Conformance]"),
    ],
)  # fmt: skip
async def test_a_collection_is_deleted(cluster: Cluster, resource: ResourceType, event: object) -> None:
    assert callable(event)

    async def listed() -> list[str]:
        found = await cluster.client.list(resource, cluster.namespace, label_selector="testevent-set=true")
        return sorted(name_of(each) for each in found.items)

    names = ["test-event-1", "test-event-2", "test-event-3"]
    for name in names:
        await cluster.create(resource, event(cluster, name, "testevent-set"))
    assert await listed() == names
    await delete_collection(cluster, resource, "testevent-set=true")
    assert await listed() == []
