"""What the cloud's controllers decide, and the provider for labs."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from controlplane.cloud import lifecycle, options, routes, services
from controlplane.cloud.contract import CloudError, Instance, Route
from controlplane.cloud.nodes import PROVIDED_IP, UNINITIALIZED, described, node_addresses
from controlplane.cloud.providers import navarch
from machinery.api.meta import Object
from machinery.errors import SettingsError

INSTANCE = Instance(
    "navarch://vm-1",
    [("InternalIP", "10.0.0.1"), ("InternalIP", "fd00::1"), ("ExternalIP", "192.0.2.1")],
    instance_type="small",
    zone="a",
    region="lab",
    labels={"rack": "r1"},
)


def node(name: str = "n1", *, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata = {"name": name, "resourceVersion": "7", "annotations": annotations or {}}
    return {"metadata": metadata, "spec": spec, "status": {}}


def ready(obj: Object, status: str = "True") -> Object:
    return {**obj, "status": {**obj["status"], "conditions": [{"type": "Ready", "status": status}]}}


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_a_node_is_described_and_freed_of_its_taint() -> None:
    other = {"key": "other", "effect": "NoSchedule"}
    patch = described(node(taints=[{"key": UNINITIALIZED, "effect": "NoSchedule"}, other]), INSTANCE)
    assert patch["spec"] == {"taints": [other], "providerID": "navarch://vm-1"}
    assert patch["metadata"]["resourceVersion"] == "7", "the taints are replaced on the revision looked at"
    assert patch["metadata"]["labels"] == {
        "rack": "r1",
        "beta.kubernetes.io/instance-type": "small",
        "node.kubernetes.io/instance-type": "small",
        "failure-domain.beta.kubernetes.io/zone": "a",
        "topology.kubernetes.io/zone": "a",
        "failure-domain.beta.kubernetes.io/region": "lab",
        "topology.kubernetes.io/region": "lab",
    }
    assert "providerID" not in described(node(providerID="other://x"), INSTANCE)["spec"]


def test_addresses_are_the_clouds_but_for_the_kubelets_choice() -> None:
    assert [a["address"] for a in node_addresses(node(), INSTANCE)] == ["10.0.0.1", "fd00::1", "192.0.2.1"]
    chosen = node(annotations={PROVIDED_IP: "fd00::1"})
    assert [a["address"] for a in node_addresses(chosen, INSTANCE)] == ["fd00::1", "192.0.2.1"]
    named = {**node(), "status": {"addresses": [{"type": "Hostname", "address": "h"}]}}
    assert node_addresses(named, INSTANCE)[-1] == {"type": "Hostname", "address": "h"}
    with pytest.raises(CloudError, match=r"matches ip: 10\.9\.9\.9"):
        node_addresses(node(annotations={PROVIDED_IP: "10.9.9.9"}), INSTANCE)


def test_the_taint_of_a_machine_that_is_off() -> None:
    taint = {"key": lifecycle.SHUTDOWN, "effect": "NoSchedule"}
    assert lifecycle.with_shutdown_taint(node(), shut_down=True) == [taint]
    assert lifecycle.with_shutdown_taint(node(taints=[taint]), shut_down=True) is None
    assert lifecycle.with_shutdown_taint(node(taints=[taint]), shut_down=False) == []


# -- routes ----------------------------------------------------------------------------------------------------------


def test_routes_lead_to_each_family_and_only_our_own_go() -> None:
    addresses = [{"type": "InternalIP", "address": a} for a in ("10.0.0.1", "fd00::1")]
    owner = {**node(podCIDRs=["10.244.1.0/24", "fd10:0:1::/64"]), "status": {"addresses": addresses}}
    wanted = [Route("10.244.1.0/24", "10.0.0.1", "n1"), Route("fd10:0:1::/64", "fd00::1", "n1")]
    assert routes.wanted_routes(owner) == wanted
    cluster = [ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd10::/48")]
    old, foreign = Route("10.244.9.0/24", "10.0.0.9"), Route("172.16.0.0/24", "10.0.0.9")
    plan = routes.plan_routes([owner], [wanted[0], old, foreign], cluster)
    assert (plan.create, plan.delete) == ((wanted[1],), (old,))
    moved = routes.plan_routes([owner], [Route("10.244.1.0/24", "10.0.0.7"), wanted[1]], cluster)
    assert (moved.create, moved.delete) == ((wanted[0],), (Route("10.244.1.0/24", "10.0.0.7"),))


def test_what_a_node_says_of_its_route() -> None:
    told = routes.network_condition(node(), reachable=True, now="now")
    assert told is not None
    assert (told["status"], told["reason"]) == ("False", "RouteCreated")
    standing = {**node(), "status": {"conditions": [told]}}
    assert routes.network_condition(standing, reachable=True, now="later") is None
    told = routes.network_condition(standing, reachable=False, now="later")
    assert told is not None
    assert told["reason"] == "NoRouteCreated"


# -- services --------------------------------------------------------------------------------------------------------


def service(name: str = "s", *ips: str, **spec: Any) -> Object:
    ingress = [{"ip": ip} for ip in ips]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", **spec},
        "status": {"loadBalancer": {"ingress": ingress}},
    }


def test_which_services_the_cloud_serves() -> None:
    assert services.wants_balancer(service())
    assert not services.wants_balancer(service(loadBalancerClass="example.com/other"))
    assert not services.wants_balancer(service(type="ClusterIP"))


def test_which_nodes_take_traffic() -> None:
    excluded = ready(node("excluded"))
    excluded["metadata"]["labels"] = {services.EXCLUDED: ""}
    going = ready(node("going", taints=[{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]))
    nodes = [ready(node("b")), ready(node("a")), excluded, going, ready(node("down"), "False"), node("new")]
    assert [n["metadata"]["name"] for n in services.usable_nodes(nodes)] == ["a", "b"]


# -- the provider for labs -------------------------------------------------------------------------------------------

FILE = """
apiVersion: cloud.navarch.dev/v1alpha1
kind: NavarchCloud
region: lab
instances:
  - {name: n1, id: vm-1, zone: a, type: small, addresses: {InternalIP: [10.0.0.1]}}
  - {name: n2, shutDown: true}
loadBalancers: {pool: [192.0.2.0/31, 192.0.2.8-192.0.2.8, "2001:db8::/127"]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cloud.yaml"
    path.write_text(FILE)
    return path


async def test_machines_come_and_go_with_the_file(path: Path) -> None:
    cloud = navarch.make(str(path), list)
    assert cloud.instances is not None
    assert cloud.routes is None
    found = await cloud.instances.find(node("n1"))
    assert found is not None
    assert (found.provider_id, found.region) == ("navarch://vm-1", "lab")
    assert await cloud.instances.find(node("renamed", providerID="navarch://vm-1")) is not None
    assert await cloud.instances.find(node("n1", providerID="navarch://other")) is None
    assert await cloud.instances.is_shut_down(node("n2"))
    path.write_text(FILE.replace("  - {name: n2, shutDown: true}\n", ""))
    assert await cloud.instances.find(node("n2")) is None
    path.write_text("nonsense: [")
    with pytest.raises(CloudError, match="cannot parse"):
        await cloud.instances.find(node("n1"))


async def test_addresses_are_given_once_kept_and_given_back(path: Path) -> None:
    known: list[Object] = []
    balancers = navarch.make(str(path), lambda: known).load_balancers
    assert balancers is not None

    async def ask(asking: Object) -> list[str]:
        known.append(asking)
        return [str(i["ip"]) for i in await balancers.ensure(asking, [])]

    assert await ask(service("a")) == ["192.0.2.0"]
    assert await ask(service("b")) == ["192.0.2.1"], "though the cache does not show the first one's address yet"
    assert await ask(service("held", "192.0.2.8")) == ["192.0.2.8"]
    with pytest.raises(CloudError, match="no IPv4 address is left"):
        await ask(service("late"))
    assert await ask(service("six", ipFamilies=["IPv6"])) == ["2001:db8::"]
    with pytest.raises(CloudError, match=r"192\.0\.2\.1 is in use by another Service"):
        await ask(service("greedy", loadBalancerIP="192.0.2.1"))
    with pytest.raises(CloudError, match="not in the pool"):
        await ask(service("lost", loadBalancerIP="192.0.2.99"))
    await balancers.delete(known[1])
    known.remove(known[1])
    assert await ask(service("next")) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: n1, ", "", r"instances\[0\]\.name: Required value"),
        ("InternalIP:", "Inside:", r"instances\[0\]\.addresses: Inside is none of"),
        ("192.0.2.0/31", "192.0.2.1/31", r"loadBalancers\.pool\[0\]: "),
        ("192.0.2.8-192.0.2.8", "192.0.2.8-192.0.2.7", "does not lead from a lower address to a higher one"),
        ("region: lab", "routes: {table: none}", "'none' is not the number of a routing table"),
        ("kind: NavarchCloud", "kind: Other", "holds no NavarchCloud"),
    ],
)
def test_files_that_can_not_work_are_refused(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(FILE.replace(old, new))
    with pytest.raises(SettingsError, match=message):
        navarch.make(str(path), list)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--cloud-provider cannot be empty"),
        (["--cloud-provider=navarch", "--nonsense"], "--nonsense"),
        (["--cloud-provider=navarch", "--cluster-cidr=x"], "--cluster-cidr"),
    ],
)
def test_flags_that_can_not_work_are_refused_by_name(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        options.parse(arguments)
