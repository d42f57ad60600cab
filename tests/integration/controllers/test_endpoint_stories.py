"""Endpoints, EndpointSlices and what mirrors them, against a real API server."""

from __future__ import annotations

from typing import Any

from controllers_cluster import Cluster, counted, pod_template, story

from machinery.api.catalogue import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICEACCOUNTS, SERVICES
from machinery.api.meta import Object, annotations_of, labels_of, name_of, uid_of
from machinery.client.rest import STRATEGIC

ALL = "endpoint,endpointslice,endpointslicemirroring,serviceaccount,garbagecollector"


def of_service(name: str, count: int) -> Any:
    """Whether the Service's slices have so many endpoints in all."""

    def found(slices: list[Object]) -> bool:
        mine = [s for s in slices if labels_of(s).get("kubernetes.io/service-name") == name]
        return bool(mine) and sum(len(s.get("endpoints") or ()) for s in mine) == count

    return found


async def pod(cluster: Cluster, name: str, **labels: str) -> Object:
    await cluster.object(SERVICEACCOUNTS, "default", bool)
    ports = [{"name": "http", "containerPort": 3000}]
    spec = pod_template()["spec"]
    spec["containers"][0]["ports"] = ports
    await cluster.admin.create(PODS, {"metadata": {"name": name, "labels": labels}, "spec": spec}, "default")
    return await cluster.object(PODS, name, lambda p: p["status"].get("podIP"))


async def test_endpoints_and_slices_follow_pods() -> None:
    figures = [f"endpoint_slice_controller_endpoints_{what}_per_sync_sum" for what in ("added", "removed")]
    before = list(map(counted, figures))
    async with story(ALL) as cluster:
        await cluster.node("n1")
        spec = {"selector": {"app": "web"}, "ports": [{"name": "a", "port": 80, "targetPort": "http"}]}
        await cluster.admin.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec}, "default")
        (empty,) = await cluster.until(ENDPOINTSLICES, of_service("web", 0), "default")
        assert labels_of(empty)["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
        none = await cluster.object(ENDPOINTS, "web", bool)
        assert not none.get("subsets")

        made = await pod(cluster, "p1", app="web")
        (slice_,) = await cluster.until(ENDPOINTSLICES, of_service("web", 1), "default")
        assert slice_["ports"] == [{"name": "a", "port": 3000, "protocol": "TCP"}]
        (endpoint,) = slice_["endpoints"]
        assert endpoint["addresses"] == [made["status"]["podIP"]]
        assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
        assert endpoint["nodeName"] == "n1"
        assert endpoint["targetRef"]["uid"] == uid_of(made)
        filled = await cluster.object(ENDPOINTS, "web", lambda e: e.get("subsets"))
        assert filled["subsets"][0]["ports"] == [{"name": "a", "port": 3000, "protocol": "TCP"}]
        assert labels_of(filled)["endpoints.kubernetes.io/managed-by"] == "endpoint-controller"

        unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        await cluster.admin.patch(PODS, "p1", unready, "default", content_type=STRATEGIC, subresource="status")
        await cluster.object(ENDPOINTS, "web", lambda e: e["subsets"][0].get("notReadyAddresses"))
        await cluster.until(
            ENDPOINTSLICES, lambda found: found[0]["endpoints"][0]["conditions"]["ready"] is False, "default"
        )
        await cluster.admin.delete(PODS, "p1", "default", grace_seconds=0)
        await cluster.until(ENDPOINTSLICES, of_service("web", 0), "default")
        await cluster.admin.delete(SERVICES, "web", "default")
        await cluster.until(ENDPOINTSLICES, lambda found: not found, "default")
        await cluster.gone(ENDPOINTS, "web")
    assert [counted(name) - start for name, start in zip(figures, before, strict=True)] == [1, 1]


async def test_what_somebody_changes_in_a_slice_is_put_right() -> None:
    async with story(ALL) as cluster:
        await cluster.node("n1")
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
        await cluster.admin.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec}, "default")
        await pod(cluster, "p1", app="web")
        (slice_,) = await cluster.until(ENDPOINTSLICES, of_service("web", 1), "default")
        await cluster.admin.delete(ENDPOINTSLICES, name_of(slice_), "default")
        (again,) = await cluster.until(
            ENDPOINTSLICES, lambda found: of_service("web", 1)(found) and uid_of(found[0]) != uid_of(slice_), "default"
        )
        await cluster.admin.patch(ENDPOINTSLICES, name_of(again), {"endpoints": []}, "default")
        await cluster.until(ENDPOINTSLICES, of_service("web", 1), "default")


async def test_endpoints_made_by_hand_are_mirrored() -> None:
    """Conformance: "should mirror a custom Endpoints resource through create update and delete"."""
    async with story(ALL, hollow=False) as cluster:
        spec = {"ports": [{"name": "example", "port": 80, "protocol": "TCP"}]}
        await cluster.admin.create(SERVICES, {"metadata": {"name": "custom"}, "spec": spec}, "default")
        subset = {"ports": [{"port": 80}], "addresses": [{"ip": "10.1.2.3"}]}
        await cluster.admin.create(ENDPOINTS, {"metadata": {"name": "custom"}, "subsets": [subset]}, "default")
        (mirror,) = await cluster.until(ENDPOINTSLICES, of_service("custom", 1), "default")
        assert mirror["endpoints"][0]["addresses"] == ["10.1.2.3"]
        assert mirror["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
        managed = labels_of(mirror)["endpointslice.kubernetes.io/managed-by"]
        assert managed == "endpointslicemirroring-controller.k8s.io"
        assert not annotations_of(mirror).get("endpoints.kubernetes.io/last-change-trigger-time")
        changed = {"subsets": [{"ports": [{"port": 81}], "addresses": [{"ip": "10.2.3.4"}]}]}
        await cluster.admin.patch(ENDPOINTS, "custom", changed, "default")
        await cluster.until(
            ENDPOINTSLICES,
            lambda found: (
                len(found) == 1
                and found[0]["endpoints"][0]["addresses"] == ["10.2.3.4"]
                and found[0]["ports"][0]["port"] == 81
            ),
            "default",
        )
        await cluster.admin.delete(ENDPOINTS, "custom", "default")
        await cluster.until(ENDPOINTSLICES, lambda found: not found, "default")
