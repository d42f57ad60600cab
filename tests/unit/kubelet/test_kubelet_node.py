"""The node: its configuration, what it has, whom it takes, its processors, its plugins, who may ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubelet_values import container, pod, sized

from agent.kubelet import flags
from agent.kubelet.cgroups.hierarchy import Hierarchy, Limits
from agent.kubelet.cgroups.pods import PodCgroups
from agent.kubelet.node import capacity, conditions, shutdown
from agent.kubelet.node.machine import Machine
from agent.kubelet.plugins.dra import (
    ClaimDevice,
    ClaimError,
    claim_names,
    devices_of,
    special_devices,
    wants_devices,
)
from agent.kubelet.plugins.registry import PluginInfo, PluginRefused, PluginRegistry
from agent.kubelet.pods import admission
from agent.kubelet.pods.staticpods import StaticPods, read_manifest
from agent.kubelet.server.app import log_options
from agent.kubelet.server.authn import attributes
from agent.kubelet.settings import Settings
from agent.kubelet.slots import Slots
from machinery.api import quantity
from machinery.api.meta import Object
from machinery.errors import SettingsError
from machinery.testing.clock import FakeClock

GI = 1 << 30
MACHINE = Machine(4, 8 * GI, 0, {"2Mi": GI}, "m", "s", "b", "6.1", "Debian", "amd64", 32768)


def _config(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(f"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}\n")
    return path


def test_flags_win_over_drop_ins_and_those_over_the_file(tmp_path: Path) -> None:
    path = _config(tmp_path, "config.yaml", "maxPods: 10\nclusterDomain: a\nclusterDNS: [10.0.0.1]")
    (tmp_path / "d").mkdir()
    _config(tmp_path / "d", "10.conf", "maxPods: 20\nclusterDomain: b")
    _config(tmp_path / "d", "20.conf", "maxPods: 30")
    (tmp_path / "d" / "notes.txt").write_text("not read")
    options = flags.parse([f"--config={path}", f"--config-dir={tmp_path}/d", "--max-pods=40", "--hostname-override=N1"])
    assert (options.settings.max_pods, options.settings.cluster_domain, options.node_name) == (40, "b", "n1")
    assert options.settings.cluster_dns == ("10.0.0.1",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("maxPods: many", "maxPods: 'many'"),
        ("syncFrequency: 5", "syncFrequency: 5: a duration"),
        ("memoryManagerPolicy: Dynamic", "memoryManagerPolicy: 'Dynamic': one of , None, Static is needed"),
        ("tracing: {}", "tracing: {} is not supported"),
        ("authentication: yes", "authentication: an object is needed"),
    ],
)
def test_wrong_configuration_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        flags.parse([f"--config={_config(tmp_path, 'config.yaml', text)}"])


def test_labels_of_kubernetes_itself_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"node-role\.kubernetes\.io/master"):
        flags.parse(["--node-labels=node-role.kubernetes.io/master=x"])
    assert flags.parse(["--node-labels=node.kubernetes.io/x=y"]).node_labels == {"node.kubernetes.io/x": "y"}


def test_what_pods_may_use_of_the_node() -> None:
    settings = Settings(
        system_reserved={"cpu": "500m", "memory": "1Gi"}, kube_reserved={"cpu": "500m"}, pods_per_core=5
    )
    has = capacity.capacity(MACHINE, settings, 100 * GI)
    found = capacity.shown(capacity.allocatable(has, settings))
    assert capacity.shown(has)["pods"] == "20"
    assert found["cpu"] == "3"
    assert found["memory"] == f"{(8 * GI - GI - GI - (100 << 20)) // 1024}Ki"
    assert found["ephemeral-storage"] == f"{90 * GI // 1024}Ki"
    assert found["hugepages-2Mi"] == "1Gi"


def test_resources_that_others_give_a_node_can_be_used() -> None:
    reported = {
        "capacity": {"cpu": "1", "example.com/dongle": "4", "hugepages-64Ki": "0"},
        "allocatable": {"cpu": "1", "example.com/taken-away": "2"},
    }
    ours = {"cpu": quantity.of(8), "example.com/device": quantity.ZERO}
    has, usable = capacity.with_advertised(reported, ours, ours)
    assert has == {"cpu": "8", "example.com/device": "0", "example.com/dongle": "4"}
    assert usable == {**has, "example.com/taken-away": None}


def test_conditions_of_the_node_keep_their_times() -> None:
    first = conditions.build(frozenset(), [], [], "t1")
    assert {c["type"]: (c["status"], c["reason"]) for c in first}["Ready"] == ("True", "KubeletReady")
    second = conditions.build(frozenset({"DiskPressure"}), ["a", "b"], first, "t2")
    by_type = {c["type"]: c for c in second}
    assert by_type["DiskPressure"]["reason"] == "KubeletHasDiskPressure"
    assert (by_type["Ready"]["message"], by_type["Ready"]["lastTransitionTime"]) == ("[a, b]", "t2")
    assert by_type["MemoryPressure"]["lastTransitionTime"] == "t1"


NODE: Object = {
    "metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}},
    "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]},
}
ROOM = {"cpu": quantity.parse("4"), "pods": quantity.of(3)}
TOLERATES = [{"key": "k", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (pod(tolerations=TOLERATES), ""),
        (pod(), "TaintToleration"),
        (pod(tolerations=TOLERATES, nodeSelector={"disk": "hdd"}), "NodeAffinity"),
        (pod(sized(requests={"cpu": "5"}), tolerations=TOLERATES), "OutOfcpu"),
        (pod(sized(requests={"example.com/unknown": "5"}), tolerations=TOLERATES), ""),
        (pod(tolerations=TOLERATES, os={"name": "windows"}), "PodOSNotSupported"),
        (pod(container(ports=[{"containerPort": 1, "hostPort": 80}]), tolerations=TOLERATES), "NodePorts"),
        (
            pod(tolerations=TOLERATES, securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
            "SysctlForbidden",
        ),
        (pod(tolerations=TOLERATES, securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}), ""),
        (
            pod(
                tolerations=TOLERATES,
                hostNetwork=True,
                securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]},
            ),
            "SysctlForbidden",
        ),
    ],
)
def test_whom_the_node_takes(wanted: Object, reason: str) -> None:
    other = pod(container(ports=[{"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}]), name="other")
    verdict = admission.judge(wanted, NODE, [other], ROOM, ["net.core.*"])
    assert (verdict.reason if verdict else "") == reason


def test_the_node_counts_its_pods() -> None:
    verdict = admission.judge(pod(tolerations=TOLERATES), NODE, [pod(name=n) for n in "abc"], ROOM, [])
    assert verdict is not None
    assert verdict.message == "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"


@pytest.mark.parametrize(
    ("operator", "value", "matches"), [("Gt", "7", True), ("Gt", "8", False), ("Lt", "9", True), ("In", "8", True)]
)
def test_required_affinity(operator: str, value: str, matches: bool) -> None:
    term = {"matchExpressions": [{"key": "cores", "operator": operator, "values": [value]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    wanted = pod(tolerations=TOLERATES, affinity={"nodeAffinity": required})
    assert (admission.judge(wanted, NODE, [], ROOM, []) is None) == matches


def _guaranteed(cpu: str, name: str = "p", **fields: Any) -> Object:
    both = {"cpu": cpu, "memory": "1Gi"}
    return pod(sized(requests=both, limits=both), name=name, **fields)


# -- control groups ---------------------------------------------------------------------------------------------------


def test_groups_are_folders_or_slices() -> None:
    unified = Hierarchy(True, {})
    uid = "aaaa-bbbb"
    burstable = pod(sized(requests={"cpu": "1"}), uid=uid)
    plain = PodCgroups(Settings(cgroup_root="/r"), unified)
    assert plain.group_of(burstable) == plain.runtime_parent(burstable) == f"/r/kubepods/burstable/pod{uid}"
    slices = PodCgroups(Settings(cgroup_driver="systemd"), unified)
    last = "kubepods-burstable-podaaaa_bbbb.slice"
    assert slices.group_of(burstable) == f"/kubepods.slice/kubepods-burstable.slice/{last}"
    assert slices.runtime_parent(burstable) == last


def test_limits_of_pods() -> None:
    groups = PodCgroups(Settings(pod_pids_limit=100), Hierarchy(True, {}))
    assert groups.limits_of(pod()) == Limits(cpu_shares=2, pids=100)
    limited = _guaranteed("500m")
    assert groups.limits_of(limited) == Limits(512, 50_000, 100_000, GI, 100)
    half = pod(sized("a", limits={"memory": "1Gi"}), sized("b", requests={"cpu": "1"}))
    assert groups.limits_of(half).memory_bytes is None


# -- plugins ----------------------------------------------------------------------------------------------------------


def test_claims_of_a_pod_and_devices_of_a_container() -> None:
    wanted = pod(
        resourceClaims=[{"name": "a", "resourceClaimName": "x"}, {"name": "b", "resourceClaimTemplateName": "t"}]
    )
    with pytest.raises(ClaimError, match="not created yet"):
        list(claim_names(wanted))
    wanted["status"] = {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}]}
    assert list(claim_names(wanted)) == [("a", "x"), ("b", "made")]
    ready = {"a": [ClaimDevice(("one",), "d", "p", "1", ()), ClaimDevice(("two/sub",), "d", "p", "2", ())]}

    def chosen(**claim: str) -> list[str]:
        return [d.device for d in devices_of(container(resources={"claims": [{"name": "a", **claim}]}), ready)]

    assert (chosen(), chosen(request="one"), chosen(request="two")) == (["1", "2"], ["1"], ["2"])


def test_extended_resources_that_devices_stand_for() -> None:
    special = {
        "resourceClaimName": "made",
        "requestMappings": [
            {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "one"},
            {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "two"},
            {"containerName": "other", "resourceName": "example.com/gpu", "requestName": "three"},
        ],
    }
    wanted = pod() | {"status": {"extendedResourceClaimStatus": special}}
    assert wants_devices(wanted)
    assert not wants_devices(pod())
    assert list(claim_names(wanted)) == [("", "made")]
    names = ("one", "two", "three", "one")
    ready = {"": [ClaimDevice((name,), "d", "p", str(number), ()) for number, name in enumerate(names)]}
    asking = container(name="c", resources={"requests": {"example.com/gpu": "3"}})
    assert [d.device for d in special_devices(wanted, asking, ready)] == ["0", "3", "1"]
    assert special_devices(wanted, container(name="c"), ready) == []
    assert devices_of(asking, ready) == []


class _Handler:
    def __init__(self) -> None:
        self.seen: list[PluginInfo] = []

    async def register(self, info: PluginInfo) -> None:
        self.seen.append(info)
        raise PluginRefused("not today")

    async def deregister(self, info: PluginInfo) -> None:
        self.seen.remove(info)


async def test_what_is_no_socket_is_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "file.sock").write_text("")
    handler = _Handler()
    await PluginRegistry(str(tmp_path), {"CSIPlugin": handler}, FakeClock()).look()
    assert handler.seen == []


def test_groups_of_a_shutdown() -> None:
    found = shutdown.groups(Settings(shutdown_seconds=30, shutdown_critical_seconds=10))
    assert found == [shutdown.Group(0, 20), shutdown.Group(2_000_000_000, 10)]
    by_priority = ({"priority": 100, "shutdownGracePeriodSeconds": 5}, {"priority": 0, "shutdownGracePeriodSeconds": 7})
    found = shutdown.groups(Settings(shutdown_by_priority=by_priority))
    pods = [pod(name="low", priority=-5), pod(name="mid", priority=50), pod(name="high", priority=500)]
    sorted_in = {g.priority: [p["metadata"]["name"] for p in own] for g, own in shutdown.members(pods, found)}
    assert sorted_in == {0: ["low", "mid"], 100: ["high"]}
    assert shutdown.groups(Settings()) == []


# -- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/stats/summary", ("get", ("stats",))),
        ("GET", "/metrics/cadvisor", ("get", ("metrics",))),
        ("GET", "/logs/syslog", ("get", ("log",))),
        ("GET", "/pods", ("get", ("pods", "proxy"))),
        ("GET", "/healthz", ("get", ("healthz", "proxy"))),
        ("POST", "/exec/ns/p/c", ("create", ("proxy",))),
    ],
)
def test_what_a_request_needs(method: str, path: str, found: tuple[str, tuple[str, ...]]) -> None:
    assert attributes(method, path) == found


def test_log_options_of_a_query() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    options, previous = log_options({"tailLines": "5", "sinceSeconds": "60", "previous": "true"}, now)
    assert (options.tail_lines, options.since, previous) == (5, datetime(2025, 12, 31, 23, 59, tzinfo=UTC), True)
    for query, told in (
        ({"tailLines": "-1"}, "greater than or equal to 0"),
        ({"sinceSeconds": "1", "sinceTime": "x"}, "at most one"),
        ({"stream": "Both"}, "Unsupported value"),
    ):
        with pytest.raises(ValueError, match=told):
            log_options(query, now)


async def test_those_furthest_along_go_first() -> None:
    slots, order = Slots(1), []

    async def work(name: str, rank: int) -> None:
        async with slots.hold(rank):
            order.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name, rank in (("first", 1), ("sandbox", 1), ("container", 0)):
            group.create_task(work(name, rank))
    assert order == ["first", "container", "sandbox"]


MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: c, image: "x:1", livenessProbe: {httpGet: {port: 80}}, resources: {limits: {cpu: 1}}}]
"""


def test_static_pods_get_the_defaults_that_the_api_would_set(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(MANIFEST)
    found = read_manifest(str(path), "n1", "now")
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("web-n1", "default")
    only = found["spec"]["containers"][0]
    assert (only["imagePullPolicy"], only["resources"]["requests"]) == ("IfNotPresent", {"cpu": 1})
    assert only["livenessProbe"]["httpGet"] == {"path": "/", "scheme": "HTTP", "port": 80}
    assert found["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    assert read_manifest(str(path), "n1", "later")["metadata"]["uid"] == found["metadata"]["uid"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: Pod", "a v1 Pod is needed"),
        (MANIFEST.replace("web", "Web"), "metadata.name"),
        (MANIFEST.replace("name: c,", ""), r"spec.containers\[0\].name: Required value"),
        (MANIFEST.replace("spec:", "spec:\n  serviceAccountName: x"), "may not refer to other API objects"),
        (MANIFEST + "---" + MANIFEST, "there are 2 documents"),
    ],
)
def test_wrong_manifests_are_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told):
        read_manifest(str(path), "n1", "now")


def test_a_manifest_that_becomes_wrong_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(MANIFEST)
    told: list[Any] = []
    take_all: Callable[[Any], None] = told.append
    static = StaticPods(str(tmp_path), "n1", FakeClock(), take_all)
    assert static.look()
    path.write_text("kind: Nonsense")
    assert not static.look()
    path.unlink()
    assert static.look()
