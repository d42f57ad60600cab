"""Config maps and secrets as volumes: what is in them, with which mode, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from cluster import Cluster, pod, requirement, shell, shows
from volumes import (
    AT,
    CONFIGMAP,
    DOWNWARD,
    PROJECTED_CONFIGMAP,
    PROJECTED_SECRET,
    SECRET,
    Source,
    mount,
    tell,
)

from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

NON_ROOT: Object = {"runAsUser": 1000}
NON_ROOT_OF_A_GROUP: Object = {"runAsUser": 1000, "fsGroup": 1001}


@dataclass(frozen=True, slots=True)
class Case:
    """What a pod asks for, and what mode it is to see."""

    seen: str = "-rw-r--r--"
    mode: int | None = None
    mapped: Object | None = None
    user: Object | None = None


DEFAULT = Case()
MODE = Case("-r--------", mode=0o400)
MAPPED = Case(mapped={"key": "data-2", "path": "path/to/data-2"})
MAPPED_WITH_MODE = Case("-r--------", mapped={"key": "data-2", "path": "path/to/data-2", "mode": 0o400})


@pytest.mark.parametrize(
    ("source", "case"),
    [
        shows(CONFIGMAP, DEFAULT, name="[sig-storage] ConfigMap should be consumable from pods in volume [NodeConformance] [Conformance]"),
        shows(CONFIGMAP, Case(user=NON_ROOT), name="[sig-storage] ConfigMap should be consumable from pods in volume as non-root [NodeConformance] [Conformance]"),
        shows(CONFIGMAP, MODE, name="[sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(CONFIGMAP, MAPPED, name="[sig-storage] ConfigMap should be consumable from pods in volume with mappings [NodeConformance] [Conformance]"),
        shows(CONFIGMAP, MAPPED_WITH_MODE, name="[sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(CONFIGMAP, Case(mapped=MAPPED.mapped, user=NON_ROOT), name="[sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, DEFAULT, name="[sig-storage] Projected configMap should be consumable from pods in volume [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, Case(user=NON_ROOT), name="[sig-storage] Projected configMap should be consumable from pods in volume as non-root [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, MODE, name="[sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, MAPPED, name="[sig-storage] Projected configMap should be consumable from pods in volume with mappings [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, MAPPED_WITH_MODE, name="[sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, Case(mapped=MAPPED.mapped, user=NON_ROOT), name="[sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root [NodeConformance] [Conformance]"),
        shows(SECRET, DEFAULT, name="[sig-storage] Secrets should be consumable from pods in volume [NodeConformance] [Conformance]"),
        shows(SECRET, MODE, name="[sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(SECRET, Case("-r--r-----", mode=0o440, user=NON_ROOT_OF_A_GROUP), name="[sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(SECRET, MAPPED, name="[sig-storage] Secrets should be consumable from pods in volume with mappings [NodeConformance] [Conformance]"),
        shows(SECRET, MAPPED_WITH_MODE, name="[sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, DEFAULT, name="[sig-storage] Projected secret should be consumable from pods in volume [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, MODE, name="[sig-storage] Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, Case("-r--r-----", mode=0o440, user=NON_ROOT_OF_A_GROUP), name="[sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly] [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, MAPPED, name="[sig-storage] Projected secret should be consumable from pods in volume with mappings [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, MAPPED_WITH_MODE, name="[sig-storage] Projected secret should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly] [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_a_pod_reads_its_volume(cluster: Cluster, source: Source, case: Case) -> None:
    await source.hold(cluster, "holds", data_1="value-1", data_2="value-2", data_3="value-3")
    items: dict[str, Any] = {"items": [case.mapped]} if case.mapped else {}
    path = f"{AT}/{case.mapped['path']}" if case.mapped else f"{AT}/data-1"
    ended = await cluster.run(
        pod(
            "reads",
            shell(tell(path), volumeMounts=[mount(readOnly=True)]),
            volumes=[source.volume("holds", mode=case.mode, **items)],
            securityContext=case.user or {},
        )
    )
    assert (ended.phase, ended.log) == ("Succeeded", f"{case.seen}\nvalue-{2 if case.mapped else 1}")


@pytest.mark.parametrize(
    "source",
    [
        shows(CONFIGMAP, name="[sig-storage] ConfigMap should be consumable in multiple volumes in the same pod [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, name="[sig-storage] Projected configMap should be consumable in multiple volumes in the same pod [NodeConformance] [Conformance]"),
        shows(SECRET, name="[sig-storage] Secrets should be consumable in multiple volumes in a pod [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, name="[sig-storage] Projected secret should be consumable in multiple volumes in a pod [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_one_object_is_two_volumes_of_a_pod(cluster: Cluster, source: Source) -> None:
    await source.hold(cluster, "holds", data_1="value-1\n")
    ended = await cluster.run(
        pod(
            "reads",
            shell(
                f"{tell('/a/data-1')} && {tell('/b/data-1')}",
                volumeMounts=[mount("/a", "v1", readOnly=True), mount("/b", "v2", readOnly=True)],
            ),
            volumes=[source.volume("holds", named="v1"), source.volume("holds", named="v2")],
        )
    )
    assert (ended.phase, ended.log) == ("Succeeded", "-rw-r--r--\nvalue-1\n" * 2)


@requirement("[sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace [NodeConformance] [Conformance]")  # fmt: skip
async def test_a_secret_of_another_namespace_does_not_get_in(cluster: Cluster) -> None:
    async with cluster.anothernamespace() as other:
        await SECRET.hold(other, "holds", this_should_not_match_content_of_other_secret="value-2")
        await SECRET.hold(cluster, "holds", data_1="value-1")
        ended = await cluster.run(
            pod(
                "reads",
                shell(f"{tell(f'{AT}/data-1')}; ls {AT}", volumeMounts=[mount()]),
                volumes=[SECRET.volume("holds")],
            )
        )
        assert (ended.phase, ended.log) == ("Succeeded", "-rw-r--r--\nvalue-1data-1\n")


@requirement("[sig-storage] Projected combined should project all components that make up the projection API [Projection] [NodeConformance] [Conformance]")  # fmt: skip
async def test_one_volume_projects_all(cluster: Cluster) -> None:
    await cluster.create(SECRETS, {"metadata": {"name": "s"}, "data": SECRET.data(secret_data="secret-value-1 ")})
    await cluster.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"configmap-data": "configmap-value-1"}})
    sources = [
        {
            "downwardAPI": {
                "items": [{"path": "podname", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]
            }
        },
        {"secret": {"name": "s"}},
        {"configMap": {"name": "c"}},
    ]
    ended = await cluster.run(
        pod(
            "reads",
            shell("cat /all/podname && cat /all/secret-data && cat /all/configmap-data", volumeMounts=[mount("/all")]),
            volumes=[{"name": "v", "projected": {"sources": sources}}],
        )
    )
    assert (ended.phase, ended.log) == ("Succeeded", "readssecret-value-1 configmap-value-1")


@pytest.mark.parametrize(
    ("volume", "subpath", "path", "content"),
    [
        shows(SECRET.volume("holds"), "key", "/test-volume", "value", name="[sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod [Conformance]"),
        shows(CONFIGMAP.volume("holds"), "key", "/test-volume", "value", name="[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod [Conformance]"),
        shows(CONFIGMAP.volume("holds"), "key", "/etc/resolv.conf", "value", name="[sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file [Conformance]"),
        shows(DOWNWARD.volume(items=[{"path": "downward/podname", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]), "downward/podname", "/test-volume", "reads", name="[sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod [Conformance]"),
        shows(PROJECTED_CONFIGMAP.volume("holds", items=[{"path": "projected/key", "key": "key"}]), "projected/key", "/test-volume", "value", name="[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod [Conformance]"),
    ],
)  # fmt: skip
async def test_a_file_of_a_volume_is_mounted(
    cluster: Cluster, volume: Object, subpath: str, path: str, content: str
) -> None:
    await SECRET.hold(cluster, "holds", key="value")
    await CONFIGMAP.hold(cluster, "holds", key="value")
    probe = mount("/probe-volume", "probe")
    ended = await cluster.run(
        pod(
            "reads",
            shell(f"cat {path}", volumeMounts=[mount(path, subPath=subpath), probe]),
            volumes=[volume, {"name": "probe", "emptyDir": {}}],
            securityContext={"seLinuxOptions": {"level": "s0:c0,c1"}},
        )
    )
    assert (ended.phase, ended.log) == ("Succeeded", content)
