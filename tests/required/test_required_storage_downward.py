"""A pod's own fields as a volume."""

from __future__ import annotations

import pytest
from cluster import Cluster, pod, shell, shows
from volumes import AT, DOWNWARD, PROJECTED_DOWNWARD, Source, mount
from workers import schedulable_nodes

from machinery.api import quantity
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

LIMITED: Object = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}


def items(mode: int | None = None) -> list[Object]:
    name: Object = {"path": "podname", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
    return [
        name | ({} if mode is None else {"mode": mode}),
        *(
            {"path": path, "resourceFieldRef": {"containerName": "c", "resource": resource}}
            for path, resource in (
                ("cpu_limit", "limits.cpu"),
                ("cpu_request", "requests.cpu"),
                ("memory_limit", "limits.memory"),
                ("memory_request", "requests.memory"),
            )
        ),
    ]


@pytest.mark.parametrize(
    ("source", "path", "content"),
    [
        shows(DOWNWARD, "podname", "tells", name="[sig-storage] Downward API volume should provide podname only [NodeConformance] [Conformance]"),
        shows(DOWNWARD, "cpu_limit", "2", name="[sig-storage] Downward API volume should provide container's cpu limit [NodeConformance] [Conformance]"),
        shows(DOWNWARD, "cpu_request", "1", name="[sig-storage] Downward API volume should provide container's cpu request [NodeConformance] [Conformance]"),
        shows(DOWNWARD, "memory_limit", "67108864", name="[sig-storage] Downward API volume should provide container's memory limit [NodeConformance] [Conformance]"),
        shows(DOWNWARD, "memory_request", "33554432", name="[sig-storage] Downward API volume should provide container's memory request [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "podname", "tells", name="[sig-storage] Projected downwardAPI should provide podname only [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "cpu_limit", "2", name="[sig-storage] Projected downwardAPI should provide container's cpu limit [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "cpu_request", "1", name="[sig-storage] Projected downwardAPI should provide container's cpu request [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "memory_limit", "67108864", name="[sig-storage] Projected downwardAPI should provide container's memory limit [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "memory_request", "33554432", name="[sig-storage] Projected downwardAPI should provide container's memory request [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_a_field_is_a_file(cluster: Cluster, source: Source, path: str, content: str) -> None:
    reads = shell(f"cat {AT}/{path}", volumeMounts=[mount()], resources=LIMITED)
    ended = await cluster.run(pod("tells", reads, volumes=[source.volume(items=items())]))
    assert (ended.phase, ended.log) == ("Succeeded", content)


@pytest.mark.parametrize(
    ("source", "resource"),
    [
        shows(DOWNWARD, "cpu", name="[sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance] [Conformance]"),
        shows(DOWNWARD, "memory", name="[sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "cpu", name="[sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "memory", name="[sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_the_nodes_allocatable_is_the_limit_of_what_has_none(
    cluster: Cluster, source: Source, resource: str
) -> None:
    reads = shell(f"cat {AT}/{resource}_limit", volumeMounts=[mount()])
    ended = await cluster.run(pod("tells", reads, volumes=[source.volume(items=items())]))
    nodes = {node["metadata"]["name"]: node["status"]["allocatable"] for node in await schedulable_nodes(cluster)}
    allocatable = quantity.parse(nodes[ended.pod["spec"]["nodeName"]][resource])
    assert (ended.phase, int(ended.log)) == ("Succeeded", allocatable.value())


@pytest.mark.parametrize(
    ("source", "of_all", "of_the_item"),
    [
        shows(DOWNWARD, 0o400, None, name="[sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(DOWNWARD, None, 0o400, name="[sig-storage] Downward API volume should set mode on item file [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, 0o400, None, name="[sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, None, 0o400, name="[sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly] [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_a_file_has_the_mode_asked_for(
    cluster: Cluster, source: Source, of_all: int | None, of_the_item: int | None
) -> None:
    reads = shell(f"stat -L -c %A {AT}/podname {AT}/cpu_limit", volumeMounts=[mount()])
    ended = await cluster.run(pod("tells", reads, volumes=[source.volume(mode=of_all, items=items(of_the_item))]))
    other = "-r--------" if of_all else "-rw-r--r--"
    assert (ended.phase, ended.log) == ("Succeeded", f"-r--------\n{other}\n")
