"""Ranges of what containers may ask for, and classes of priority."""

from __future__ import annotations

import copy
import secrets

import pytest
from cluster import Cluster, pod, requirement, sleeper
from objects import delete_collection
from operations import contains
from watching import watching

from machinery.api import quantity
from machinery.api.catalogue import LIMITRANGES, PODS, PRIORITYCLASSES
from machinery.api.meta import Object, name_of
from machinery.client.rest import STRATEGIC
from machinery.errors import Forbidden, Invalid

pytest_plugins = ["cluster_fixture"]


def amounts(cpu: str = "", memory: str = "", storage: str = "") -> dict[str, str]:
    pairs = (("cpu", cpu), ("memory", memory), ("ephemeral-storage", storage))
    return {name: amount for name, amount in pairs if amount}


MIN, MAX = amounts("50m", "100Mi", "100Gi"), amounts("500m", "500Mi", "500Gi")
NEW_MIN = amounts("9m", "49Mi", "49Gi")
DEFAULT_REQUEST = amounts("100m", "200Mi", "200Gi")
LIMITS: list[Object] = [
    {"type": "Container", "min": MIN, "max": MAX, "default": MAX, "defaultRequest": DEFAULT_REQUEST}
]


def same(one: dict[str, str], other: dict[str, str]) -> bool:
    return {name: quantity.parse(amount).milli_value() for name, amount in one.items()} == {
        name: quantity.parse(amount).milli_value() for name, amount in other.items()
    }


async def ask(cluster: Cluster, name: str, requests: dict[str, str], limits: dict[str, str] | None = None) -> Object:
    """What a pod's container has of resources when this was asked for."""
    resources = {"requests": requests, "limits": limits or {}}
    await cluster.create(PODS, pod(name, sleeper(resources=resources)))
    found: Object = (await cluster.get(PODS, name))["spec"]["containers"][0]["resources"]
    return found


@requirement("[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied. [Conformance]")  # fmt: skip
async def test_pods_get_a_ranges_defaults(cluster: Cluster) -> None:
    label = secrets.token_hex(4)
    body: Object = {"metadata": {"name": "limit-range", "labels": {"time": label}}, "spec": {"limits": LIMITS}}
    async with watching(cluster, LIMITRANGES, f"time={label}") as seen:
        await cluster.create(LIMITRANGES, body)
        await seen.until(lambda event: event.type == "ADDED", "the range made")
    made = await cluster.get(LIMITRANGES, "limit-range")
    assert same(made["spec"]["limits"][0]["default"], MAX)
    assert same(made["spec"]["limits"][0]["defaultRequest"], DEFAULT_REQUEST)

    found = await ask(cluster, "nothing", {})
    assert same(found["requests"], DEFAULT_REQUEST)
    assert same(found["limits"], MAX)
    found = await ask(cluster, "partly", amounts("", "150Mi", "150Gi"), amounts("300m"))
    assert same(found["requests"], amounts("300m", "150Mi", "150Gi"))
    assert same(found["limits"], amounts("300m", "500Mi", "500Gi"))
    small, large = amounts("10m", "50Mi", "50Gi"), amounts("600m", "600Mi", "600Gi")
    for wanted in (small, large):
        with pytest.raises((Forbidden, Invalid)):
            await ask(cluster, "refused", wanted)
    made["spec"]["limits"][0]["min"] = NEW_MIN
    await cluster.client.update(LIMITRANGES, made)
    await cluster.object_that(
        LIMITRANGES, "limit-range", lambda now: now["spec"]["limits"][0]["min"] == NEW_MIN, "updated", seconds=20
    )
    await ask(cluster, "small", small)
    with pytest.raises((Forbidden, Invalid)):
        await ask(cluster, "refused", large)
    await cluster.delete(LIMITRANGES, "limit-range", grace_seconds=30)
    await ask(cluster, "large", large)


@requirement("[sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection [Conformance]")
async def test_ranges_are_listed_patched_and_deleted(cluster: Cluster) -> None:
    name = f"e2e-limitrange-{secrets.token_hex(4)}"
    body: Object = {
        "metadata": {"name": name, "labels": {"e2e-test": name, name: "created"}},
        "spec": {"limits": LIMITS},
    }

    async def everywhere() -> int:
        return len((await cluster.client.list(LIMITRANGES, label_selector=f"e2e-test={name}")).items)

    async with cluster.anothernamespace() as other:
        made = await cluster.create(LIMITRANGES, body)
        await other.create(LIMITRANGES, body)
        assert await everywhere() == 2
        limits = [{**made["spec"]["limits"][0], "min": NEW_MIN}]
        patch = {"metadata": {"labels": {name: "patched"}}, "spec": {"limits": limits}}
        patched = await cluster.patch(LIMITRANGES, name, patch, content_type=STRATEGIC)
        assert patched["metadata"]["labels"][name] == "patched"
        assert patched["spec"]["limits"][0]["min"] == NEW_MIN
        assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        await delete_collection(cluster, LIMITRANGES, f"{name}=patched")
        assert not (await cluster.client.list(LIMITRANGES, cluster.namespace, label_selector=f"{name}=patched")).items
        assert await everywhere() == 1


@pytest.mark.serial
@requirement("[sig-scheduling] SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Conformance]")  # fmt: skip
async def test_classes_of_priority_change_but_for_their_value(cluster: Cluster) -> None:
    client, label = cluster.client, {"e2e": cluster.namespace}
    try:
        made = [
            await cluster.create(
                PRIORITYCLASSES, {"metadata": {"name": f"{cluster.namespace}-p{value}", "labels": label}, "value": value}
            )
            for value in (1, 2)
        ]  # fmt: skip
        names = [name_of(each) for each in made]
        with pytest.raises(Invalid):
            await cluster.patch(PRIORITYCLASSES, names[0], {"value": 10}, content_type=STRATEGIC)
        with pytest.raises(Invalid):
            await client.update(PRIORITYCLASSES, made[1] | {"value": 20})
        described = {"description": "updated description"}
        await cluster.patch(PRIORITYCLASSES, names[0], described, content_type=STRATEGIC)
        await client.update(PRIORITYCLASSES, copy.deepcopy(made[1]) | described)
        assert set(names) <= {name_of(each) for each in (await client.list(PRIORITYCLASSES)).items}
        for value, name in enumerate(names, 1):
            assert contains(await cluster.get(PRIORITYCLASSES, name), described | {"value": value})
    finally:
        await delete_collection(cluster, PRIORITYCLASSES, f"e2e={cluster.namespace}")
