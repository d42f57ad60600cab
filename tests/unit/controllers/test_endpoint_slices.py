"""From Services and pods to EndpointSlices and Endpoints."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from controller_objects import metadata, pod

from controlplane.controllers.endpoints.hints import distribution_of, with_hints
from controlplane.controllers.endpoints.legacy import plan_endpoints, subsets_of, truncated
from controlplane.controllers.endpoints.mirror import plan_mirror, should_mirror
from controlplane.controllers.endpoints.model import PortSet, desired_endpoints
from controlplane.controllers.endpoints.slices import SliceMaker, SlicePlan, plan_slices
from machinery.api.catalogue import SERVICES
from machinery.api.meta import Object


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("web", labels={"team": "a"}),
        "spec": {"selector": {"app": "web"}, "ports": ports, "ipFamilies": ["IPv4"], "clusterIP": "10.0.0.1", **spec},
    }


def node(name: str, zone: str = "", cpu: str = "4") -> Object:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu}}
    return {"metadata": metadata(name, "", labels=labels), "status": status}


def maker(svc: Object) -> SliceMaker:
    return SliceMaker(svc, SERVICES, "me", svc["metadata"]["labels"], {}, headless=False, service_name="web")


def desired(svc: Object, *pods: Object) -> dict[PortSet, list[Object]]:
    return desired_endpoints(svc, pods, node, "IPv4")


def pods(count: int) -> list[Object]:
    return [pod(f"p{n}", ip=f"10.1.0.{n + 1}") for n in range(count)]


def stored(plan: SlicePlan) -> list[Object]:
    """The slices after the plan's writes, on an empty cluster."""
    made = []
    for number, slice_ in enumerate(plan.create):
        named = {**slice_["metadata"], "name": f"web-{number}", "resourceVersion": "1", "uid": f"s{number}"}
        made.append({**slice_, "metadata": named})
    return made


def test_an_endpoint_tells_all_about_its_pod() -> None:
    p = pod("p", ip="10.1.0.1", node="n1", spec={"hostname": "h", "subdomain": "web"})
    found = desired_endpoints(service(), [p], lambda _: node("n1", "z1"), "IPv4")
    ((ports, endpoints),) = found.items()
    assert ports.ports == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert endpoints == [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p", "uid": p["metadata"]["uid"]},
            "nodeName": "n1",
            "zone": "z1",
            "hostname": "h",
        }
    ]


@pytest.mark.parametrize(
    ("changes", "publish", "conditions"),
    [
        ({}, False, (True, True, False)),
        ({"ready": False}, False, (False, False, False)),
        ({"ready": False}, True, (True, False, False)),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, False, (False, True, True)),
        ({"phase": "Succeeded"}, False, None),
        ({"ip": ""}, False, None),
    ],
)
def test_conditions(changes: dict[str, Any], publish: bool, conditions: tuple[bool, ...] | None) -> None:
    svc = service(publishNotReadyAddresses=publish)
    found = [e for es in desired(svc, pod("p", **{"ip": "10.1.0.1", **changes})).values() for e in es]
    told = [tuple(e["conditions"][n] for n in ("ready", "serving", "terminating")) for e in found]
    assert told == ([] if conditions is None else [conditions])


def test_a_named_port_may_differ_from_pod_to_pod() -> None:
    svc = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])

    def offering(name: str, port: int) -> Object:
        containers = [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]
        return pod(name, ip=f"10.1.0.{port}", spec={"containers": containers})

    found = desired(svc, offering("a", 1), offering("b", 2), pod("none", ip="10.1.0.9"))
    assert sorted(ports.ports[0]["port"] for ports in found if ports.ports) == [1, 2]
    # a pod without the port is an endpoint all the same: it has an address, and names lead to it
    assert [e["targetRef"]["name"] for e in found[PortSet.of([])]] == ["none"]


def test_a_pod_of_a_node_that_is_not_there_is_no_endpoint_yet() -> None:
    for publish, count in ((False, 0), (True, 1)):
        svc = service(publishNotReadyAddresses=publish)
        assert len(desired_endpoints(svc, [pod("p", ip="10.1.0.1")], lambda _: None, "IPv4")) == count


def test_a_service_without_pods_has_an_empty_slice_that_stands() -> None:
    svc = service()
    first = plan_slices(maker(svc), "IPv4", [], {}, 100)
    (slice_,) = stored(first)
    assert slice_["endpoints"] == []
    assert slice_["ports"] == []
    assert not plan_slices(maker(svc), "IPv4", [slice_], {}, 100)


def test_labels_and_owner_of_a_slice() -> None:
    svc = service()
    (slice_,) = plan_slices(maker(svc), "IPv4", [], desired(svc, *pods(1)), 100).create
    assert slice_["metadata"]["generateName"] == "web-"
    assert slice_["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "me",
    }
    assert slice_["metadata"]["ownerReferences"][0]["controller"] is True


def test_what_stands_is_not_written_again() -> None:
    svc = service()
    slices = stored(plan_slices(maker(svc), "IPv4", [], desired(svc, *pods(250)), 100))
    assert [len(s["endpoints"]) for s in slices] == [100, 100, 50]
    same = {PortSet.of(slices[0]["ports"]): [e for s in slices for e in s["endpoints"]]}
    assert not plan_slices(maker(svc), "IPv4", slices, same, 100)


def test_one_change_is_one_write_and_new_ones_fill_what_is_written_anyway() -> None:
    svc = service()
    slices = stored(plan_slices(maker(svc), "IPv4", [], desired(svc, *pods(250)), 100))
    everything = [e for s in slices for e in s["endpoints"]]
    ports = PortSet.of(slices[0]["ports"])
    gone_and_come = {ports: [*everything[1:], {**everything[0], "addresses": ["10.9.9.9"]}]}
    plan = plan_slices(maker(svc), "IPv4", slices, gone_and_come, 100)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    assert plan.update[0]["metadata"]["name"] == "web-0"
    one_more = {ports: [*everything, {**everything[0], "addresses": ["10.9.9.9"]}]}
    plan = plan_slices(maker(svc), "IPv4", slices, one_more, 100)
    assert [s["metadata"]["name"] for s in plan.update] == ["web-2"]
    emptied = {ports: everything[:100]}
    plan = plan_slices(maker(svc), "IPv4", slices, emptied, 100)
    assert (len(plan.update), [s["metadata"]["name"] for s in plan.delete]) == (0, ["web-1", "web-2"])


def test_changed_ports_rewrite_the_slice() -> None:
    svc = service()
    slices = stored(plan_slices(maker(svc), "IPv4", [], desired(svc, *pods(1)), 100))
    moved = service(ports=[{"name": "http", "port": 80, "targetPort": 9090}])
    plan = plan_slices(maker(moved), "IPv4", slices, desired(moved, *pods(1)), 100)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    assert plan.update[0]["metadata"]["name"] == "web-0"
    assert plan.update[0]["ports"][0]["port"] == 9090


def test_when_the_last_pod_goes_an_empty_slice_stays() -> None:
    svc = service()
    slices = stored(plan_slices(maker(svc), "IPv4", [], desired(svc, *pods(250)), 100))
    plan = plan_slices(maker(svc), "IPv4", slices, {}, 100)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 2)
    assert plan.update[0]["endpoints"] == plan.update[0]["ports"] == []


def test_hints_keep_traffic_near() -> None:
    zones = {"n1": node("n1", "z1"), "n2": node("n2", "z2")}
    some = [pod(f"p{n}", ip=f"10.1.0.{n}", node=f"n{n % 2 + 1}") for n in range(6)]
    svc = service(trafficDistribution="PreferClose")
    found = desired_endpoints(svc, some, zones.get, "IPv4")
    assert distribution_of(svc) == "PreferSameZone"
    for endpoints in with_hints(found, "PreferSameZone", zones.values).values():
        assert all(e["hints"] == {"forZones": [{"name": e["zone"]}]} for e in endpoints)
    for endpoints in with_hints(found, "PreferSameNode", zones.values).values():
        assert all(e["hints"]["forNodes"] == [{"name": e["nodeName"]}] for e in endpoints)
    for endpoints in with_hints(found, "Auto", zones.values).values():
        assert sorted(e["hints"]["forZones"][0]["name"] for e in endpoints) == ["z1"] * 3 + ["z2"] * 3
    for endpoints in with_hints(found, "Auto", lambda: [zones["n1"]]).values():
        assert all("hints" not in e for e in endpoints)


@pytest.mark.parametrize(
    ("cpu", "present", "hinted"),
    [
        ({"a": 4, "b": 4}, {"a": 2, "b": 2}, {"a": 2, "b": 2}),
        ({"a": 4, "b": 4}, {"a": 5, "b": 1}, {"a": 3, "b": 3}),
        ({"a": 4, "b": 4}, {"a": 1, "b": 0}, {}),  # fewer endpoints than zones
        ({"a": 4, "b": 4}, {"a": 2, "b": 1}, {}),  # two for one zone would leave the other too few
        ({"a": 6, "b": 2}, {"a": 4, "b": 4}, {"a": 6, "b": 2}),
        ({"a": 4, "b": 4, "c": 4}, {"a": 4, "b": 4, "c": 4}, {"a": 4, "b": 4, "c": 4}),
        ({"a": 4, "b": 4, "c": 4}, {"a": 9, "b": 2, "c": 1}, {"a": 4, "b": 4, "c": 4}),
        ({"a": 8}, {"a": 3}, {}),  # one zone needs no hints
    ],
)
def test_hints_by_the_zones_shares_of_cpu(cpu: dict[str, int], present: dict[str, int], hinted: dict[str, int]) -> None:
    nodes = [node(f"n-{zone}", zone, str(cores)) for zone, cores in cpu.items()]
    endpoints = [
        {"addresses": [f"{zone}{n}"], "zone": zone, "conditions": {"ready": True}}
        for zone, count in present.items()
        for n in range(count)
    ]
    (made,) = with_hints({PortSet.of([]): endpoints}, "Auto", lambda: nodes).values()
    assert Counter(e["hints"]["forZones"][0]["name"] for e in made if "hints" in e) == hinted


def test_endpoints_are_packed_by_port_and_sorted() -> None:
    svc = service(ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}])
    down = pod("down", ip="10.1.0.9", ready=False)
    (subset,) = subsets_of(svc, [*reversed(pods(2)), down])
    assert [a["ip"] for a in subset["addresses"]] == ["10.1.0.1", "10.1.0.2"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.1.0.9"]
    assert [p["name"] for p in subset["ports"]] == ["a", "b"]


def test_endpoints_stand_once_written() -> None:
    svc = service()
    first = plan_endpoints(svc, pods(2), None)
    assert first is not None
    assert first["metadata"]["labels"] == {"team": "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    same = pods(2)
    written = plan_endpoints(svc, same, None)
    assert plan_endpoints(svc, same, written) is None


def test_endpoints_are_cut_at_a_thousand() -> None:
    subset = {
        "addresses": [{"ip": str(n)} for n in range(900)],
        "notReadyAddresses": [{"ip": str(n)} for n in range(200)],
    }
    (cut,), over = truncated([subset])
    assert over
    assert (len(cut["addresses"]), len(cut["notReadyAddresses"])) == (900, 100)


def test_hand_made_endpoints_are_mirrored() -> None:
    svc = service(selector=None)
    endpoints = {
        "metadata": metadata("web", annotations={"note": "x"}),
        "subsets": [
            {
                "addresses": [{"ip": "10.2.0.1"}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.2.0.2"}],
                "ports": [{"port": 80}],
            }
        ],
    }
    assert should_mirror(svc, endpoints)
    assert not should_mirror(service(), endpoints)
    plan, left_out = plan_mirror("web", endpoints, [], 100, 1000)
    by_family = {s["addressType"]: s for s in plan.create}
    assert {f: len(s["endpoints"]) for f, s in by_family.items()} == {"IPv4": 2, "IPv6": 1}
    assert by_family["IPv4"]["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    assert by_family["IPv4"]["metadata"]["annotations"] == {"note": "x"}
    assert left_out == 0
