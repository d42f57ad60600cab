"""PodDisruptionBudgets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cluster import Cluster, eventually, is_ready, pod, requirement, sleeper
from objects import delete_collection, replace
from workloads import pods_that

from machinery.api.catalogue import PODDISRUPTIONBUDGETS, PODS
from machinery.api.meta import Object, name_of
from machinery.client.rest import STRATEGIC
from machinery.errors import NotFound, TooManyRequests

pytest_plugins = ["cluster_fixture"]

NAME = "foo"
LABELS = {"foo": "bar"}


async def _create(cluster: Cluster, **spec: Any) -> Object:
    described = {"selector": {"matchLabels": LABELS}} | spec
    return await cluster.create(PODDISRUPTIONBUDGETS, {"metadata": {"name": NAME, "labels": LABELS}, "spec": described})


async def _that(cluster: Cluster, holds: Any, what: str) -> Object:
    """The budget when something holds of its status, which is of its current generation."""

    def seen(found: Object) -> bool:
        status = found.get("status", {})
        return bool(status.get("observedGeneration", 0) >= found["metadata"]["generation"] and holds(status))

    return await cluster.object_that(PODDISRUPTIONBUDGETS, NAME, seen, what)


async def _start(cluster: Cluster, count: int) -> None:
    for number in range(count):
        await cluster.create(PODS, pod(f"pod-{number}", sleeper(), labels=LABELS, restartPolicy="Always"))
    await pods_that(cluster, LABELS, lambda pods: [is_ready(each) for each in pods] == [True] * count, "pods ready")


async def _evict(cluster: Cluster, name: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": cluster.namespace},
    }
    await cluster.client.create_subresource(PODS, name, "eviction", eviction, cluster.namespace)


@requirement("[sig-apps] DisruptionController should create a PodDisruptionBudget [Conformance]")
async def test_lifecycle(cluster: Cluster) -> None:
    made = await _create(cluster, minAvailable="1%")
    assert made["spec"]["minAvailable"] == "1%"
    await _that(cluster, lambda _: True, "looked after")
    updated = await replace(cluster, PODDISRUPTIONBUDGETS, NAME, lambda o: o["spec"].update(minAvailable="2%"))
    assert updated["spec"]["minAvailable"] == "2%"
    await _that(cluster, lambda _: True, "looked after again")
    patched = await cluster.patch(PODDISRUPTIONBUDGETS, NAME, {"spec": {"minAvailable": "3%"}}, content_type=STRATEGIC)
    assert patched["spec"]["minAvailable"] == "3%"
    await _that(cluster, lambda _: True, "looked after again")
    await cluster.delete(PODDISRUPTIONBUDGETS, NAME)


@requirement(
    "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets [Conformance]"
)
async def test_collection(cluster: Cluster) -> None:
    async def put(where: Cluster, name: str, group: str) -> None:
        labels = {"group": f"{cluster.namespace}-{group}"}
        spec = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
        await where.create(PODDISRUPTIONBUDGETS, {"metadata": {"name": name, "labels": labels}, "spec": spec})

    async def found(namespace: str) -> list[str]:
        chosen = f"group in ({cluster.namespace}-a,{cluster.namespace}-b)"
        listed = (await cluster.client.list(PODDISRUPTIONBUDGETS, namespace, label_selector=chosen)).items
        return sorted(name_of(each) for each in listed)

    async with cluster.anothernamespace() as other:
        await put(cluster, "foo", "a")
        await put(cluster, "foo2", "b")
        await put(other, "foo", "a")
        assert await found("") == ["foo", "foo", "foo2"]
        assert await found(cluster.namespace) == ["foo", "foo2"]
        await delete_collection(cluster, PODDISRUPTIONBUDGETS, f"group={cluster.namespace}-a")
        assert await found(cluster.namespace) == ["foo2"]
        assert await found("") == ["foo", "foo2"]


@requirement("[sig-apps] DisruptionController should observe PodDisruptionBudget status updated [Conformance]")
async def test_counts(cluster: Cluster) -> None:
    await _create(cluster, minAvailable=1)
    await _start(cluster, 3)
    found = await _that(cluster, lambda status: status["currentHealthy"] == 3, "counts its pods")
    status = found["status"]
    assert status["disruptionsAllowed"] > 0
    counts = [status[count] for count in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")]
    assert counts == [2, 3, 1, 3]
    [condition] = [each for each in status["conditions"] if each["type"] == "DisruptionAllowed"]
    assert (condition["status"], condition["reason"]) == ("True", "SufficientPods")


@requirement("[sig-apps] DisruptionController should update/patch PodDisruptionBudget status [Conformance]")
async def test_status(cluster: Cluster) -> None:
    await _create(cluster, minAvailable=1)
    await _start(cluster, 1)  # with no pods the controller would forget at once what is told of disrupted ones
    await _that(cluster, lambda status: status["currentHealthy"] == 1, "counts its pods")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = ["pod-0"]
    updated = await replace(
        cluster,
        PODDISRUPTIONBUDGETS,
        NAME,
        lambda o: o["status"].update(disruptedPods=dict.fromkeys(names, now)),
        subresource="status",
    )
    assert sorted(updated["status"]["disruptedPods"]) == names
    patch = {"status": {"disruptedPods": None}}
    patched = await cluster.patch(PODDISRUPTIONBUDGETS, NAME, patch, subresource="status")
    assert not patched["status"].get("disruptedPods")


@requirement(
    "[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it [Conformance]"
)
async def test_evictions(cluster: Cluster) -> None:
    await _create(cluster, minAvailable=3)
    await _start(cluster, 3)
    await _that(cluster, lambda s: s["currentHealthy"] == 3 and not s["disruptionsAllowed"], "allows none")
    with pytest.raises(
        TooManyRequests, match="Cannot evict pod as it would violate the pod's disruption budget"
    ) as told:
        await _evict(cluster, "pod-0")
    causes = (told.value.details or {})["causes"]
    assert [each["reason"] for each in causes] == ["DisruptionBudget"]
    assert "needs 3 healthy pods and has 3 currently" in causes[0]["message"]

    await replace(cluster, PODDISRUPTIONBUDGETS, NAME, lambda o: o["spec"].update(minAvailable=2))
    await _that(cluster, lambda status: status["disruptionsAllowed"] == 1, "allows one")
    await _evict(cluster, "pod-0")

    async def gone() -> bool:
        try:
            await cluster.get(PODS, "pod-0")
        except NotFound:
            return True
        return False

    await eventually(gone, "pod-0 evicted")
    await _that(cluster, lambda s: s["currentHealthy"] == 2 and not s["disruptionsAllowed"], "allows none again")
    # A patch that asks for two of the three that would be healthy lets nothing go, one that asks for one does.
    await cluster.patch(PODDISRUPTIONBUDGETS, NAME, {"spec": {"minAvailable": 3}}, content_type=STRATEGIC)
    await _that(cluster, lambda status: not status["disruptionsAllowed"], "allows none still")
    with pytest.raises(TooManyRequests, match="Cannot evict pod"):
        await _evict(cluster, "pod-1")
    await cluster.delete(PODDISRUPTIONBUDGETS, NAME)
    await _evict(cluster, "pod-1")
