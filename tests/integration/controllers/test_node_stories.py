"""Nodes that fall silent, taints that evict, pods that nobody else removes: against a real API server."""

from __future__ import annotations

from controllers_cluster import Cluster, LateClock, pod_template, running_cluster, running_manager, story

from controlplane.controllers.podgc import PodCollector
from machinery.api.catalogue import EVENTS, NODES, PODS, SERVICEACCOUNTS
from machinery.api.meta import Object, annotations_of, condition, is_deleting, name_of
from machinery.cache.informer import Informers


def taint_keys(node: Object) -> set[tuple[str, str]]:
    return {(t["key"].rpartition("/")[2], t["effect"]) for t in node["spec"].get("taints") or ()}


async def bound(cluster: Cluster, name: str, **spec: object) -> None:
    await cluster.object(SERVICEACCOUNTS, "default", bool)
    made = {"metadata": {"name": name}, "spec": {**pod_template()["spec"], "nodeName": "n1", **spec}}
    await cluster.admin.create(PODS, made, "default")


async def test_a_silent_node_is_tainted_and_emptied() -> None:
    clock = LateClock()
    async with (
        running_cluster() as cluster,
        running_manager(
            cluster, "nodelifecycle,taint-eviction-controller,serviceaccount,ttl", clock, node_monitor_period="200ms"
        ),
    ):
        await cluster.node("n1")
        await cluster.node("n2")
        await cluster.object(NODES, "n1", lambda n: not taint_keys(n), "")
        await cluster.object(NODES, "n1", lambda n: annotations_of(n).get("node.alpha.kubernetes.io/ttl") == "0", "")
        await cluster.until(EVENTS, lambda found: [e["reason"] for e in found].count("RegisteredNode") == 2)
        # Admission gives this one 300 s for both taints; the other bears none.
        await bound(cluster, "patient")
        key = {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}
        hasty = [{**key, "effect": "NoExecute", "tolerationSeconds": 0}]
        await bound(cluster, "hasty", tolerations=hasty)
        await cluster.status(PODS, "patient", {"conditions": [{"type": "Ready", "status": "True"}]})
        clock.ahead = 60.0
        await cluster.node_ready("n2", "True", clock)
        silent = await cluster.object(NODES, "n1", lambda n: ("unreachable", "NoExecute") in taint_keys(n), "")
        assert ("unreachable", "NoSchedule") in taint_keys(silent)
        ready = condition(silent["status"]["conditions"], "Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
        assert ready["message"] == "Kubelet stopped posting node status."
        leaving = await cluster.object(PODS, "hasty", is_deleting)
        target = condition(leaving["status"]["conditions"], "DisruptionTarget")
        assert target is not None
        assert target["reason"] == "DeletionByTaintManager"
        patient = await cluster.object(
            PODS, "patient", lambda p: (c := condition(p["status"]["conditions"], "Ready")) and c["status"] == "False"
        )
        assert not is_deleting(patient)
        await cluster.event("NodeNotReady")
        await cluster.event("TaintManagerEviction")
        # When no node speaks any more it is rather this process that is deaf: nobody is driven out for that.
        clock.ahead = 120.0
        await cluster.object(NODES, "n2", lambda n: ("unreachable", "NoSchedule") in taint_keys(n), "")
        await cluster.object(NODES, "n1", lambda n: taint_keys(n) == {("unreachable", "NoSchedule")}, "")
        await cluster.node_ready("n1", "True", clock)
        await cluster.object(NODES, "n1", lambda n: not taint_keys(n), "")


async def test_a_taint_taken_away_cancels_the_eviction() -> None:
    """Conformance: "removing taint cancels eviction"."""
    async with story("taint-eviction-controller,serviceaccount", hollow=False) as cluster:
        await cluster.node("n1")
        taint = {"key": "e2e", "value": "v", "effect": "NoExecute"}
        patience = [{"key": "e2e", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60}]
        await bound(cluster, "p", tolerations=patience)
        await cluster.admin.patch(NODES, "n1", {"spec": {"taints": [taint]}})
        await bound(cluster, "intolerant")
        await cluster.object(PODS, "intolerant", is_deleting)
        await cluster.admin.patch(NODES, "n1", {"spec": {"taints": None}})
        event = await cluster.event("TaintManagerEviction")
        assert event["message"].startswith(("Marking for deletion Pod default/", "Cancelling deletion of Pod"))
        assert not is_deleting(await cluster.admin.get(PODS, "p", "default"))


async def test_pods_of_a_lost_node_are_collected_after_the_quarantine() -> None:
    clock = LateClock()
    async with running_cluster() as cluster, running_manager(cluster, "serviceaccount"):
        await bound(cluster, "lost")
        async with Informers(cluster.admin) as informers:
            collector = PodCollector(informers.of(PODS), informers.of(NODES), cluster.admin, clock, threshold=0)
            await informers.synced()
            await collector.collect()
            clock.ahead += 30.0
            await collector.collect()
            assert len((await cluster.admin.list(PODS)).items) == 1, "its node may only not be in the cache yet"
            clock.ahead += 30.0
            await collector.collect()
            await cluster.gone(PODS, "lost")


async def test_nodes_are_given_networks() -> None:
    flags = {"allocate_node_cidrs": "true", "cluster_cidr": "10.244.0.0/16"}
    async with story("nodeipam", hollow=False, **flags) as cluster:
        for name in ("n1", "n2"):
            await cluster.node(name)
        nodes = await cluster.until(NODES, lambda found: all(n["spec"].get("podCIDR") for n in found))
        assert {n["spec"]["podCIDR"] for n in nodes} == {"10.244.0.0/24", "10.244.1.0/24"}
        assert sorted(map(name_of, nodes)) == ["n1", "n2"]
