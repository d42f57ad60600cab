"""Garbage, namespaces and quotas against a real API server; after the conformance tests of the same words."""

from __future__ import annotations

from typing import Any

from controllers_cluster import Cluster, pod_template, story, workload

from machinery.api.catalogue import (
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    DEPLOYMENTS,
    NAMESPACES,
    PERSISTENTVOLUMECLAIMS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
)
from machinery.api.meta import Object, condition, name_of, owner_reference, uid_of
from machinery.api.resource import ResourceType

WIDGETS = ResourceType("example.com", "v1", "widgets", "Widget")
ALL = "replicationcontroller,replicaset,deployment,serviceaccount,garbagecollector"


async def controller(cluster: Cluster, name: str, replicas: int) -> Object:
    rc = workload(REPLICATIONCONTROLLERS, name, replicas=replicas)
    rc["spec"] |= {"selector": {"app": "web"}}
    made = await cluster.admin.create(REPLICATIONCONTROLLERS, rc)
    await cluster.until(PODS, lambda pods: len(pods) == replicas, "default")
    return made


async def test_pods_go_with_their_owner_stay_as_orphans_or_keep_it_waiting() -> None:
    async with story(ALL) as cluster:
        admin = cluster.admin
        await controller(cluster, "web", 3)
        await admin.delete(REPLICATIONCONTROLLERS, "web", "default", propagation="Background")
        await cluster.until(PODS, lambda pods: not pods, "default")

        await controller(cluster, "web", 3)
        await admin.delete(REPLICATIONCONTROLLERS, "web", "default", propagation="Orphan")
        await cluster.gone(REPLICATIONCONTROLLERS, "web")
        pods = await cluster.until(
            PODS, lambda pods: not any(p["metadata"].get("ownerReferences") for p in pods), "default"
        )
        assert len(pods) == 3
        for pod in pods:
            await admin.delete(PODS, name_of(pod), "default", grace_seconds=0)

        await controller(cluster, "web", 2)
        pods = (await admin.list(PODS, "default")).items
        hold = {"metadata": {"finalizers": ["example.com/hold"]}}
        await admin.patch(PODS, name_of(pods[0]), hold, "default")
        await admin.delete(REPLICATIONCONTROLLERS, "web", "default", propagation="Foreground")
        await cluster.until(PODS, lambda pods: len(pods) == 1, "default")
        waiting = await admin.get(REPLICATIONCONTROLLERS, "web", "default")
        assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
        await admin.patch(PODS, name_of(pods[0]), {"metadata": {"finalizers": None}}, "default")
        await cluster.gone(REPLICATIONCONTROLLERS, "web")


async def test_a_deployments_replicaset_goes_or_stays() -> None:
    async with story(ALL) as cluster:
        for policy in ("Background", "Orphan"):
            await cluster.admin.create(DEPLOYMENTS, workload(DEPLOYMENTS, "web", replicas=1))
            await cluster.until(PODS, lambda pods: len(pods) == 1, "default")
            await cluster.admin.delete(DEPLOYMENTS, "web", "default", propagation=policy)
            await cluster.gone(DEPLOYMENTS, "web")
            if policy == "Background":
                await cluster.until(REPLICASETS, lambda sets: not sets, "default")
                await cluster.until(PODS, lambda pods: not pods, "default")
        (kept,) = await cluster.until(
            REPLICASETS, lambda sets: sets and not sets[0]["metadata"].get("ownerReferences"), "default"
        )
        assert kept["spec"]["replicas"] == 1
        assert len((await cluster.admin.list(PODS, "default")).items) == 1


async def test_two_owners_circles_and_custom_resources() -> None:
    async with story(ALL, hollow=False) as cluster:
        admin = cluster.admin
        going, staying = [
            await admin.create(CONFIGMAPS, {"metadata": {"name": name}}, "default") for name in ("going", "staying")
        ]

        def by(*owners: Object, name: str) -> Object:
            references = [owner_reference(o, CONFIGMAPS, controller=False) for o in owners]
            return {"metadata": {"name": name, "ownerReferences": references}}

        await admin.create(CONFIGMAPS, by(going, staying, name="both"), "default")
        await admin.delete(CONFIGMAPS, "going", "default", propagation="Foreground")
        await cluster.gone(CONFIGMAPS, "going")
        both = await cluster.object(CONFIGMAPS, "both", lambda o: len(o["metadata"]["ownerReferences"]) == 1)
        assert both["metadata"]["ownerReferences"][0]["uid"] == uid_of(staying)

        a, b, c = [await admin.create(CONFIGMAPS, {"metadata": {"name": n}}, "default") for n in ("a", "b", "c")]
        for name, owner in (("a", c), ("b", a), ("c", b)):
            reference = owner_reference(owner, CONFIGMAPS, controller=False)
            await admin.patch(CONFIGMAPS, name, {"metadata": {"ownerReferences": [reference]}}, "default")
        await admin.delete(CONFIGMAPS, "a", "default", propagation="Foreground")
        for name in "abc":
            await cluster.gone(CONFIGMAPS, name)

        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {"name": "v1", "served": True, "storage": True, "schema": schema}
        names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
        spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
        crd = {"metadata": {"name": "widgets.example.com"}, "spec": spec}
        await admin.create(CUSTOMRESOURCEDEFINITIONS, crd)
        await cluster.object(
            CUSTOMRESOURCEDEFINITIONS,
            "widgets.example.com",
            lambda o: (c := condition((o.get("status") or {}).get("conditions"), "Established")) and c["status"],
            "",
        )
        typed = {"apiVersion": "example.com/v1", "kind": "Widget"}
        widget = await admin.create(WIDGETS, {**typed, "metadata": {"name": "w"}}, "default")
        reference = owner_reference(widget, WIDGETS)
        await admin.create(WIDGETS, {**typed, "metadata": {"name": "child", "ownerReferences": [reference]}}, "default")
        await admin.delete(WIDGETS, "w", "default", propagation="Background")
        await cluster.gone(WIDGETS, "child")


async def test_a_namespace_ends_pods_first_and_tells_what_it_waits_for() -> None:
    async with story("namespace,serviceaccount") as cluster:
        admin = cluster.admin
        await admin.create(NAMESPACES, {"metadata": {"name": "going"}})
        held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}, "spec": pod_template()["spec"]}
        await cluster.object(SERVICEACCOUNTS, "default", bool, "going")
        await admin.create(PODS, held, "going")
        await admin.create(CONFIGMAPS, {"metadata": {"name": "cm"}}, "going")
        await admin.delete(NAMESPACES, "going")

        def told(namespace: Object) -> Object | None:
            remaining = condition(namespace["status"].get("conditions"), "NamespaceFinalizersRemaining")
            return remaining if remaining is not None and remaining["status"] == "True" else None

        namespace = await cluster.object(NAMESPACES, "going", told)
        assert namespace["status"]["phase"] == "Terminating"
        conditions = {c["type"]: c for c in namespace["status"]["conditions"]}
        assert conditions["NamespaceContentRemaining"]["message"] == (
            "Some resources are remaining: pods. has 1 resource instances"
        )
        assert conditions["NamespaceFinalizersRemaining"]["message"] == (
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        )
        assert conditions["NamespaceDeletionDiscoveryFailure"]["reason"] == "ResourcesDiscovered"
        assert await admin.get(CONFIGMAPS, "cm", "going"), "nothing else goes while there are pods"
        await admin.patch(PODS, "held", {"metadata": {"finalizers": None}}, "going")
        await cluster.gone(NAMESPACES, "going")
        assert (await admin.list(CONFIGMAPS, "going")).items == []


async def test_a_quota_follows_the_life_of_what_it_limits() -> None:
    hard = {
        "pods": "5",
        "services": "10",
        "configmaps": "10",
        "secrets": "10",
        "requests.cpu": "1",
        "count/replicasets.apps": "5",
        "persistentvolumeclaims": "10",
        "requests.storage": "10Gi",
    }
    async with story("resourcequota,serviceaccount", hollow=False) as cluster:
        admin = cluster.admin
        await admin.create(RESOURCEQUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}}, "default")

        async def used(**wanted: str) -> Any:
            def found(quota: Object) -> bool:
                now = (quota.get("status") or {}).get("used") or {}
                return all(now.get(name.replace("_", ".").replace("..", "/")) == v for name, v in wanted.items())

            return await cluster.object(RESOURCEQUOTAS, "q", found)

        await used(pods="0", services="0", configmaps="0", secrets="0", requests_cpu="0", count__replicasets_apps="0")
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "500m"}}}
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        await admin.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container]}}, "default")
        await admin.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}, "default")
        await admin.create(CONFIGMAPS, {"metadata": {"name": "c"}}, "default")
        await admin.create(SECRETS, {"metadata": {"name": "s"}}, "default")
        await admin.create(REPLICASETS, workload(REPLICASETS, "r", replicas=0))
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        await admin.create(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "c"}, "spec": claim}, "default")
        await used(
            pods="1",
            services="1",
            configmaps="1",
            secrets="1",
            requests_cpu="500m",
            count__replicasets_apps="1",
            requests_storage="1Gi",
        )
        await admin.delete(PODS, "p", "default", grace_seconds=0)
        for resource, name in ((SERVICES, "s"), (CONFIGMAPS, "c"), (SECRETS, "s"), (REPLICASETS, "r")):
            await admin.delete(resource, name, "default")
        await used(pods="0", services="0", configmaps="0", secrets="0", requests_cpu="0", count__replicasets_apps="0")
        await admin.patch(RESOURCEQUOTAS, "q", {"spec": {"hard": {"pods": "7"}}}, "default")
        await cluster.object(RESOURCEQUOTAS, "q", lambda q: q["status"]["hard"]["pods"] == "7")
