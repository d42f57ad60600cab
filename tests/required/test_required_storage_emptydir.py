"""Empty directories: their modes, on both media, and volumes made of them."""

from __future__ import annotations

import pytest
from cluster import Cluster, pod, requirement, shell, shows, sleeper
from lab_images import BUSYBOX
from volumes import CONFIGMAP, SECRET, mount
from workers import HOSTNAME, schedulable_nodes

from machinery.api.catalogue import PODS, REPLICATIONCONTROLLERS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

ROOT, NON_ROOT = 0, 1001
DISK, MEMORY = "", "Memory"
AT = "/test-volume"


@pytest.mark.parametrize(
    ("user", "mode", "medium"),
    [
        shows(ROOT, 0o644, DISK, name="[sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(ROOT, 0o666, DISK, name="[sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(ROOT, 0o777, DISK, name="[sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(ROOT, 0o644, MEMORY, name="[sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(ROOT, 0o666, MEMORY, name="[sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(ROOT, 0o777, MEMORY, name="[sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(NON_ROOT, 0o644, DISK, name="[sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(NON_ROOT, 0o666, DISK, name="[sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(NON_ROOT, 0o777, DISK, name="[sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(NON_ROOT, 0o644, MEMORY, name="[sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(NON_ROOT, 0o666, MEMORY, name="[sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(NON_ROOT, 0o777, MEMORY, name="[sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly] [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_a_file_has_the_mode_it_is_given(cluster: Cluster, user: int, mode: int, medium: str) -> None:
    file = f"{AT}/test-file"
    ended = await cluster.run(
        with_emptydir(
            f"echo mount-tester new file > {file} && chmod {mode:o} {file} && stat -c %a {file} && stat -f -c %T {AT}"
            f" && cat {file}",
            user,
            medium,
        )
    )
    told, kind, content = ended.log.splitlines()
    assert (ended.phase, told, content) == ("Succeeded", f"{mode:o}", "mount-tester new file")
    assert (kind == "tmpfs") == (medium == MEMORY)


@pytest.mark.parametrize(
    "medium",
    [
        shows(DISK, name="[sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(MEMORY, name="[sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly] [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_all_may_write_to_it(cluster: Cluster, medium: str) -> None:
    ended = await cluster.run(with_emptydir(f"stat -c %a {AT} && stat -f -c %T {AT}", ROOT, medium))
    mode, kind = ended.log.splitlines()
    assert (ended.phase, mode) == ("Succeeded", "777")
    assert (kind == "tmpfs") == (medium == MEMORY)


def with_emptydir(script: str, user: int, medium: str) -> Object:
    return pod(
        "tester",
        shell(script, volumeMounts=[mount(AT)]),
        volumes=[{"name": "v", "emptyDir": {"medium": medium} if medium else {}}],
        securityContext={"seLinuxOptions": {"level": "s0"}, **({"runAsUser": user} if user else {})},
    )


@requirement("[sig-storage] EmptyDir volumes pod should support shared volumes between containers [Conformance]")
async def test_containers_share_it(cluster: Cluster) -> None:
    await cluster.create(
        PODS,
        pod(
            "shares",
            sleeper(name="main", volumeMounts=[mount("/usr/share/volumeshare")]),
            shell(
                "echo Hello from the busy-box sub-container > /pod-data/shareddata.txt",
                name="sub",
                volumeMounts=[mount("/pod-data")],
            ),
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    )
    await cluster.pod_that("shares", _only_main_runs, "has its second container ended")
    said = await cluster.exec("shares", "cat", "/usr/share/volumeshare/shareddata.txt", container="main")
    assert said == "Hello from the busy-box sub-container\n"


def _only_main_runs(found: Object) -> bool:
    states = {each["name"]: each["state"] for each in found["status"].get("containerStatuses", ())}
    return "running" in states.get("main", ()) and states.get("sub", {}).get("terminated", {}).get("exitCode") == 0


@requirement("[sig-storage] EmptyDir wrapper volumes should not conflict [Conformance]")
async def test_volumes_of_one_pod_do_not_conflict(cluster: Cluster) -> None:
    await SECRET.hold(cluster, "wrapped", data_1="value-1\n")
    await CONFIGMAP.hold(cluster, "wrapped", data_1="value-1\n")
    await cluster.start(
        pod(
            "wraps",
            sleeper(
                volumeMounts=[mount("/etc/secret-volume", "s", readOnly=True), mount("/etc/configmap-volume", "c")]
            ),
            volumes=[SECRET.volume("wrapped", named="s"), CONFIGMAP.volume("wrapped", named="c")],
        )
    )
    for folder in ("secret-volume", "configmap-volume"):
        assert await cluster.exec("wraps", "cat", f"/etc/{folder}/data-1") == "value-1\n"


@pytest.mark.serial
@pytest.mark.timeout(900)
@requirement("[sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial] [Conformance]")  # fmt: skip
async def test_many_volumes_of_many_pods_at_once(cluster: Cluster) -> None:
    names = [f"racey-configmap-{i}" for i in range(50)]
    for name in names:
        await CONFIGMAP.hold(cluster, name, data_1="value-1")
    nodes = await schedulable_nodes(cluster)
    for turn in range(3):
        label = {"name": f"wrapped-volume-race-{turn}"}
        host = nodes[turn % len(nodes)]["metadata"]["labels"][HOSTNAME]
        here = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]}
        spec = {
            "terminationGracePeriodSeconds": 0,
            "dnsPolicy": "Default",
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
            },
            "containers": [
                {
                    "name": "test-container",
                    "image": BUSYBOX,
                    "command": ["sleep", "100000"],
                    "volumeMounts": [mount(f"/etc/config-{i}", name) for i, name in enumerate(names)],
                }
            ],
            "volumes": [
                CONFIGMAP.volume(name, named=name, items=[{"key": "data-1", "path": "data-1"}]) for name in names
            ],
        }
        template = {"metadata": {"labels": label}, "spec": spec}
        controller = {"metadata": label, "spec": {"replicas": 5, "selector": label, "template": template}}
        await cluster.create(REPLICATIONCONTROLLERS, controller)
        await cluster.object_that(
            REPLICATIONCONTROLLERS,
            label["name"],
            lambda found: found["status"].get("readyReplicas") == 5,
            "has its pods running",
            seconds=240,
        )
        await cluster.delete(REPLICATIONCONTROLLERS, label["name"], propagation="Foreground")
