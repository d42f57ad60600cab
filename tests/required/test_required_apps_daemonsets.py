"""DaemonSets, and the revisions that are kept of them."""

from __future__ import annotations

from typing import Any

from cluster import Cluster, container, eventually, is_ready, requirement
from lab_images import ECHO
from objects import delete_collection, replace
from workloads import NEVER_THERE, belongs_to, pods_of, pods_that, workload

from machinery.api.catalogue import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from machinery.api.meta import Object, name_of
from machinery.client.rest import STRATEGIC
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

NAME = "daemon-set"
LABELS = {"daemonset-name": NAME}
HASH = "controller-revision-hash"


async def _nodes(cluster: Cluster) -> list[str]:
    """Nodes that daemons without tolerations run on."""
    found = (await cluster.client.list(NODES)).items
    return sorted(
        name_of(node)
        for node in found
        if not any(each["effect"] in ("NoSchedule", "NoExecute") for each in node["spec"].get("taints") or ())
    )


def _run_on(nodes: list[str], image: str = "") -> Any:
    """Whether one ready pod (of the image) is on each of these nodes, and none elsewhere."""

    def holds(pods: list[Object]) -> bool:
        ready = [each for each in pods if any(c.get("ready") for c in each["status"].get("containerStatuses") or ())]
        images = {each["spec"]["containers"][0]["image"] for each in pods}
        where = sorted(each["spec"].get("nodeName", "") for each in ready)
        return where == nodes and len(pods) == len(nodes) and (not image or images == {image})

    return holds


async def _started(cluster: Cluster, made: Object) -> list[Object]:
    """Create a DaemonSet and wait for its pods."""
    await cluster.create(DAEMONSETS, made)
    nodes = await _nodes(cluster)
    found = await pods_that(cluster, LABELS, _run_on(nodes), "a pod on every node")
    await _counts(cluster, len(nodes))
    return found


async def _counts(cluster: Cluster, nodes: int) -> None:
    """The status counts so many nodes, with a ready pod each."""

    def holds(found: Object) -> bool:
        counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "numberAvailable")
        return [found["status"].get(count, 0) for count in counts] == [nodes] * 4

    await cluster.object_that(DAEMONSETS, NAME, holds, f"on {nodes} nodes")


async def _revisions(cluster: Cluster) -> list[Object]:
    chosen = f"daemonset-name={NAME}"
    found = (await cluster.client.list(CONTROLLERREVISIONS, cluster.namespace, label_selector=chosen)).items
    return sorted(found, key=lambda each: int(each["revision"]))


@requirement("[sig-apps] Daemon set [Serial] should run and stop simple daemon [Conformance]")
async def test_simple(cluster: Cluster) -> None:
    found = await _started(cluster, workload(NAME, LABELS))
    await cluster.delete(PODS, name_of(found[0]))
    revived = await pods_that(cluster, LABELS, _run_on(await _nodes(cluster)), "the pod revived")
    assert found[0]["metadata"]["uid"] not in [each["metadata"]["uid"] for each in revived]


@requirement("[sig-apps] Daemon set [Serial] should retry creating failed daemon pods [Conformance]")
async def test_failed(cluster: Cluster) -> None:
    found = (await _started(cluster, workload(NAME, LABELS)))[0]
    await replace(cluster, PODS, name_of(found), lambda o: o["status"].update(phase="Failed"), subresource="status")

    async def gone() -> bool:
        try:
            return bool((await cluster.get(PODS, name_of(found)))["metadata"]["uid"] != found["metadata"]["uid"])
        except NotFound:
            return True

    await eventually(gone, "the failed pod gone")
    await pods_that(cluster, LABELS, _run_on(await _nodes(cluster)), "another pod in its stead")


@requirement("[sig-apps] Daemon set [Serial] should run and stop complex daemon [Conformance]")
async def test_chosen_nodes(cluster: Cluster) -> None:
    node = (await _nodes(cluster))[0]
    color = f"{cluster.namespace}-color"
    made = workload(NAME, LABELS)
    made["spec"]["template"]["spec"]["nodeSelector"] = {color: "blue"}
    await cluster.create(DAEMONSETS, made)
    await cluster.object_that(
        DAEMONSETS, NAME, lambda o: o.get("status", {}).get("observedGeneration") == 1, "looked after"
    )
    assert await pods_of(cluster, LABELS) == []
    try:
        await cluster.patch(NODES, node, {"metadata": {"labels": {color: "blue"}}})
        await pods_that(cluster, LABELS, _run_on([node]), "a pod on the blue node")
        await _counts(cluster, 1)
        await cluster.patch(NODES, node, {"metadata": {"labels": {color: "green"}}})
        await pods_that(cluster, LABELS, lambda pods: not pods, "no pod on the green node")
        patch = {"template": {"spec": {"nodeSelector": {color: "green"}}}, "updateStrategy": {"type": "RollingUpdate"}}
        await cluster.patch(DAEMONSETS, NAME, {"spec": patch}, content_type=STRATEGIC)
        await pods_that(cluster, LABELS, _run_on([node]), "a pod on the green node")
        await _counts(cluster, 1)
    finally:
        await cluster.patch(NODES, node, {"metadata": {"labels": {color: None}}})


@requirement(
    "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate [Conformance]"
)
async def test_rolling_update(cluster: Cluster) -> None:
    before = await _started(cluster, workload(NAME, LABELS, updateStrategy={"type": "RollingUpdate"}))
    [first] = await _revisions(cluster)
    assert first["revision"] == 1
    assert {each["metadata"]["labels"][HASH] for each in before} == {first["metadata"]["labels"][HASH]}
    patch = {"template": {"spec": {"containers": [{"name": "c", "image": ECHO, "command": None}]}}}
    await cluster.patch(DAEMONSETS, NAME, {"spec": patch}, content_type=STRATEGIC)
    nodes = await _nodes(cluster)

    def updated(pods: list[Object]) -> bool:
        assert len([each for each in pods if not is_ready(each)]) <= 1, "no more are unavailable than may be"
        return bool(_run_on(nodes, ECHO)(pods))

    after = await pods_that(cluster, LABELS, updated, "pods of the new image", seconds=90)
    await _counts(cluster, len(nodes))
    _, second = await _revisions(cluster)
    assert second["revision"] == 2
    assert {each["metadata"]["labels"][HASH] for each in after} == {second["metadata"]["labels"][HASH]}


@requirement("[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts [Conformance]")
async def test_rollback(cluster: Cluster) -> None:
    before = await _started(cluster, workload(NAME, LABELS, updateStrategy={"type": "RollingUpdate"}))
    image = before[0]["spec"]["containers"][0]["image"]

    def runs(wanted: str) -> Any:
        return lambda found: found["spec"]["template"]["spec"]["containers"][0].update(image=wanted)

    await replace(cluster, DAEMONSETS, NAME, runs(NEVER_THERE))
    during = await pods_that(
        cluster,
        LABELS,
        lambda pods: NEVER_THERE in [each["spec"]["containers"][0]["image"] for each in pods],
        "a pod of the bad image",
    )
    kept = {
        each["metadata"]["uid"]
        for each in during
        if each["spec"]["containers"][0]["image"] == image and each["status"]["phase"] == "Running"
    }
    assert kept, "not all pods are replaced at once"
    await replace(cluster, DAEMONSETS, NAME, runs(image))
    nodes = await _nodes(cluster)
    after = await pods_that(cluster, LABELS, _run_on(nodes, image), "pods of the good image")
    await _counts(cluster, len(nodes))
    still = {each["metadata"]["uid"]: each for each in after}
    assert kept <= still.keys(), "good pods were not replaced"
    assert {still[uid]["status"]["containerStatuses"][0]["restartCount"] for uid in kept} == {0}
    latest = (await _revisions(cluster))[-1]
    assert {each["metadata"]["labels"][HASH] for each in after} == {latest["metadata"]["labels"][HASH]}


@requirement("[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision [Conformance]")
async def test_revisions(cluster: Cluster) -> None:
    serve = container(name="app", image=ECHO)
    pods = await _started(cluster, workload(NAME, LABELS, serve))
    owner = await cluster.get(DAEMONSETS, NAME)
    [first] = await _revisions(cluster)
    assert belongs_to(first, owner)
    everywhere = (await cluster.client.list(CONTROLLERREVISIONS, label_selector=f"daemonset-name={NAME}")).items
    assert first["metadata"]["uid"] in [each["metadata"]["uid"] for each in everywhere]
    name = name_of(first)
    patch: Object = {"metadata": {"labels": {name: "patched"}}}
    patched = await cluster.patch(CONTROLLERREVISIONS, name, patch, content_type=STRATEGIC)
    assert patched["metadata"]["labels"][name] == "patched"

    second = f"{name}-made"
    metadata = {
        "name": second,
        "labels": LABELS | {HASH: "made"},
        "ownerReferences": first["metadata"]["ownerReferences"],
    }
    more = {"metadata": metadata, "data": first["data"], "revision": first["revision"] + 1}
    await cluster.create(CONTROLLERREVISIONS, more)
    assert [name_of(each) for each in await _revisions(cluster)] == [name, second]

    await cluster.delete(CONTROLLERREVISIONS, name)

    async def only(count: int) -> list[Object]:
        async def ask() -> list[Object]:
            found = await _revisions(cluster)
            return found if len(found) == count else []

        found: list[Object] = await eventually(ask, f"{count} revisions")
        return found

    [left] = await only(1)
    assert name_of(left) == second
    updated = await replace(
        cluster, CONTROLLERREVISIONS, second, lambda o: o["metadata"]["labels"].update({second: "updated"})
    )
    assert updated["metadata"]["labels"][second] == "updated"

    still = {each["metadata"]["uid"] for each in await pods_of(cluster, LABELS)}
    assert still == {each["metadata"]["uid"] for each in pods}, "the template is the same"

    containers = [{"name": "app", "image": ECHO, "env": [{"name": "A", "value": "b"}]}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}, "updateStrategy": {"type": "RollingUpdate"}}}
    await cluster.patch(DAEMONSETS, NAME, patch, content_type=STRATEGIC)
    await only(2)
    await delete_collection(cluster, CONTROLLERREVISIONS, f"{second}=updated")
    [last] = await only(1)
    assert last["revision"] == 3

    await cluster.client.delete(CONTROLLERREVISIONS, name_of(last), cluster.namespace)

    async def made_anew() -> bool:
        return [each["metadata"]["uid"] != last["metadata"]["uid"] for each in await _revisions(cluster)] == [True]

    await eventually(made_anew, "the present template's revision made anew")
