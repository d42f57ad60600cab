"""Volumes follow what they are made of; immutable objects stay as they are."""

from __future__ import annotations

import copy

import pytest
from cluster import Cluster, container, pod, requirement, shell, shows
from volumes import (
    AT,
    CONFIGMAP,
    DOWNWARD,
    PROJECTED_CONFIGMAP,
    PROJECTED_DOWNWARD,
    PROJECTED_SECRET,
    SECRET,
    Source,
    mount,
    repeat,
    says,
    says_last,
)

from machinery.api.catalogue import CONFIGMAPS, PODS
from machinery.api.meta import Object
from machinery.errors import Invalid

pytest_plugins = ["cluster_fixture"]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "source",
    [
        shows(CONFIGMAP, name="[sig-storage] ConfigMap updates should be reflected in volume [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, name="[sig-storage] Projected configMap updates should be reflected in volume [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_a_volume_follows_its_config_map(cluster: Cluster, source: Source) -> None:
    await source.hold(cluster, "changes", data_1="value-1")
    await cluster.create(
        PODS,
        pod(
            "reads",
            shell(repeat(f"{AT}/data-1"), volumeMounts=[mount(readOnly=True)]),
            volumes=[source.volume("changes")],
        ),
    )
    await says(cluster, "reads", "c", "value-1")
    await cluster.patch(source.resource, "changes", {"data": source.data(data_1="value-2")})
    await says(cluster, "reads", "c", "value-2")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "source",
    [
        shows(CONFIGMAP, name="[sig-storage] ConfigMap optional updates should be reflected in volume [NodeConformance] [Conformance]"),
        shows(PROJECTED_CONFIGMAP, name="[sig-storage] Projected configMap optional updates should be reflected in volume [NodeConformance] [Conformance]"),
        shows(SECRET, name="[sig-storage] Secrets optional updates should be reflected in volume [NodeConformance] [Conformance]"),
        shows(PROJECTED_SECRET, name="[sig-storage] Projected secret optional updates should be reflected in volume [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_optional_volumes_follow_what_comes_and_goes(cluster: Cluster, source: Source) -> None:
    for name in ("delete", "update"):
        await source.hold(cluster, name, data_1="value-1")
    files = {"delete": "data-1", "update": "data-3", "create": "data-1"}
    mounts = [mount(f"{AT}/{name}", name, readOnly=True) for name in files]
    await cluster.create(
        PODS,
        pod(
            "reads",
            *(
                shell(repeat(f"{AT}/{name}/{file}"), name=name, volumeMounts=mounts)
                for name, file in files.items()
            ),
            volumes=[source.volume(name, named=name, optional=True) for name in files],
        ),
    )  # fmt: skip
    await says(cluster, "reads", "create", "missing")
    await says(cluster, "reads", "update", "missing")
    await says(cluster, "reads", "delete", "value-1")
    await cluster.delete(source.resource, "delete")
    await cluster.patch(source.resource, "update", {"data": {"data-1": None, **source.data(data_3="value-3")}})
    await source.hold(cluster, "create", data_1="value-1")
    await says(cluster, "reads", "create", "value-1")
    await says(cluster, "reads", "update", "value-3")
    await says_last(cluster, "reads", "delete", "missing")


@requirement("[sig-storage] ConfigMap binary data should be reflected in volume [NodeConformance] [Conformance]")
async def test_binary_data_are_in_a_volume(cluster: Cluster) -> None:
    binary = {"dump.bin": "3sr+utD+/w=="}
    await cluster.create(
        CONFIGMAPS, {"metadata": {"name": "holds"}, "data": {"data-1": "value-1"}, "binaryData": binary}
    )
    mounts = [mount(readOnly=True)]
    await cluster.create(
        PODS,
        pod(
            "reads",
            shell(repeat(f"{AT}/data-1"), name="text", volumeMounts=mounts),
            container("hexdump", "-C", f"{AT}/dump.bin", name="binary", volumeMounts=mounts),
            volumes=[CONFIGMAP.volume("holds")],
        ),
    )
    await says(cluster, "reads", "text", "value-1")
    await says(cluster, "reads", "binary", "de ca fe ba d0 fe ff")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("source", "field"),
    [
        shows(DOWNWARD, "labels", name="[sig-storage] Downward API volume should update labels on modification [NodeConformance] [Conformance]"),
        shows(DOWNWARD, "annotations", name="[sig-storage] Downward API volume should update annotations on modification [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "labels", name="[sig-storage] Projected downwardAPI should update labels on modification [NodeConformance] [Conformance]"),
        shows(PROJECTED_DOWNWARD, "annotations", name="[sig-storage] Projected downwardAPI should update annotations on modification [NodeConformance] [Conformance]"),
    ],
)  # fmt: skip
async def test_a_volume_follows_the_pods_metadata(cluster: Cluster, source: Source, field: str) -> None:
    items = [{"path": field, "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.{field}"}}]
    reads = pod("reads", shell(repeat(f"{AT}/{field}"), volumeMounts=[mount()]), volumes=[source.volume(items=items)])
    reads["metadata"][field] = {"key1": "value1", "key2": "value2"}
    await cluster.create(PODS, reads)
    await says(cluster, "reads", "c", 'key1="value1"\nkey2="value2"\n')
    await cluster.patch(PODS, "reads", {"metadata": {field: {"key2": "changed", "key3": "value3"}}})
    await says(cluster, "reads", "c", 'key1="value1"\nkey2="changed"\nkey3="value3"\n')


@pytest.mark.parametrize(
    "source",
    [
        shows(CONFIGMAP, name="[sig-storage] ConfigMap should be immutable if `immutable` field is set [Conformance]"),
        shows(SECRET, name="[sig-storage] Secrets should be immutable if `immutable` field is set [Conformance]"),
    ],
)
async def test_what_is_immutable_stays_as_it_is(cluster: Cluster, source: Source) -> None:
    made = await source.hold(cluster, "stays", data_1="value-1")
    made = await update(cluster, source, made, data={**made["data"], **source.data(data_4="value-4")})
    made = await update(cluster, source, made, immutable=True)
    with pytest.raises(Invalid):
        await update(cluster, source, made, data={**made["data"], **source.data(data_5="value-5")})
    found = await cluster.get(source.resource, "stays")
    assert found["immutable"] is True
    for value in (False, None):
        with pytest.raises(Invalid):
            await update(cluster, source, found, immutable=value)
    assert found == await cluster.get(source.resource, "stays")
    labelled = copy.deepcopy(found)
    labelled["metadata"]["labels"] = {"label1": "value1"}
    assert (await cluster.client.update(source.resource, labelled))["metadata"]["labels"] == {"label1": "value1"}
    await cluster.delete(source.resource, "stays")


async def update(cluster: Cluster, source: Source, obj: Object, **fields: object) -> Object:
    return await cluster.client.update(source.resource, obj | fields)
