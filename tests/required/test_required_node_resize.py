"""What the conformance suite requires of pods resized in place ([sig-node] Pod InPlace Resize Container)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cluster import Cluster, eventually, has_condition, is_ready, requirement, shows
from connections import get_protobuf
from lab_images import BUSYBOX
from objects import replace
from statuses import container_statuses

from machinery.api import quantity
from machinery.api.catalogue import PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Size:
    """A container's resources, as quantities; "" if not said."""

    cpu: str = ""
    cpu_limit: str = ""
    memory: str = ""
    memory_limit: str = ""

    @property
    def resources(self) -> Object:
        wanted = {
            "requests": {"cpu": self.cpu, "memory": self.memory},
            "limits": {"cpu": self.cpu_limit, "memory": self.memory_limit},
        }
        said = {kind: {name: value for name, value in values.items() if value} for kind, values in wanted.items()}
        return {kind: values for kind, values in said.items() if values}


Sizes = Mapping[str, Size]


def _guaranteed(cpu: int, memory: int) -> Size:
    return Size(f"{cpu}m", f"{cpu}m", f"{memory}Mi", f"{memory}Mi")


_THREE = {"c1": _guaranteed(20, 35), "c2": _guaranteed(22, 37), "c3": _guaranteed(24, 39)}


@pytest.mark.parametrize(
    ("before", "after", "back"),
    [
        shows(
            _THREE,
            {"c1": _guaranteed(25, 40), "c2": _guaranteed(27, 42), "c3": _guaranteed(19, 34)},
            True,
            name="[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, c2, decrease cpu & mem on c3 - net increase [MinimumKubeletVersion:1.34] [Conformance]",
        ),
        shows(
            _THREE,
            {"c1": _guaranteed(25, 40), "c2": _guaranteed(17, 32), "c3": _guaranteed(19, 34)},
            True,
            name="[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, decrease cpu & mem on c2, c3 - net decrease [MinimumKubeletVersion:1.34] [Conformance]",
        ),
        shows(
            _THREE,
            {"c1": _guaranteed(25, 35), "c2": _guaranteed(17, 42), "c3": _guaranteed(29, 44)},
            True,
            name="[sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase: CPU (c1,c3), memory (c2, c3) ; decrease: CPU (c2) [MinimumKubeletVersion:1.34] [Conformance]",
        ),
        shows(
            {
                "c1": Size("20m"),
                "c2": Size(memory="35Mi"),
                "c3": Size("20m", memory="35Mi"),
                "c4": Size("20m"),
                "c5": Size(memory="35Mi"),
                "c6": Size("20m", "30m", "35Mi", "45Mi"),
            },
            {
                "c1": Size("25m", "35m"),
                "c2": Size(memory="30Mi", memory_limit="50Mi"),
                "c3": Size("20m", memory="30Mi"),
                "c4": Size("15m", memory="35Mi"),
                "c5": Size("20m", memory="40Mi"),
                "c6": Size("15m", "35m", "40Mi", "50Mi"),
            },
            False,  # what was added cannot be taken away
            name="[sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests) [MinimumKubeletVersion:1.34] [Conformance]",
        ),
        shows(
            {"c1": Size("2m", "10m")},
            {"c1": Size("1m", "5m")},
            True,
            name="[sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents [MinimumKubeletVersion:1.34] [Conformance]",
        ),
    ],
)
async def test_containers_are_resized(cluster: Cluster, before: Sizes, after: Sizes, back: bool) -> None:
    await _start(cluster, before)
    for sizes in (after, before) if back else (after,):
        containers = [{"name": name, "resources": size.resources} for name, size in sizes.items()]
        patch = {"spec": {"containers": containers}}
        patched = await cluster.patch(PODS, "resized", patch, content_type=STRATEGIC, subresource="resize")
        assert _specified(patched) == _resources(sizes)
        await _are(cluster, sizes)


@requirement(
    "[sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34] [Conformance]"
)
async def test_pod_is_replaced_in_another_size(cluster: Cluster) -> None:
    made = await _start(cluster, {"c1": Size("20m", memory="35Mi")})
    assert made["metadata"]["generation"] == 1
    after = {"c1": Size("25m", memory="40Mi")}

    def resize(found: Object) -> None:
        found["spec"]["containers"][0]["resources"] = after["c1"].resources

    await replace(cluster, PODS, "resized", resize, subresource="resize")
    found = await cluster.get(PODS, "resized")
    assert (_specified(found), found["metadata"]["generation"]) == (_resources(after), 2)
    await _are(cluster, after)

    async def same() -> bool:
        of_itself = await cluster.get(PODS, "resized")
        of_its_size = await cluster.client.get(PODS, "resized", cluster.namespace, subresource="resize")
        in_protobuf = await get_protobuf(cluster, PODS.path(cluster.namespace, "resized"))
        # In protobuf there is no null: what is null in JSON is not there.
        return of_itself == of_its_size and _said(of_itself) == _said(in_protobuf)

    await eventually(same, "the pod read at its resize subresource is the pod")


def _said(value: Any) -> Any:
    """Without what is null."""
    if isinstance(value, dict):
        return {key: _said(each) for key, each in value.items() if each is not None}
    return [_said(each) for each in value] if isinstance(value, list) else value


async def _start(cluster: Cluster, sizes: Sizes) -> Object:
    containers = [
        {
            "name": name,
            "image": BUSYBOX,
            "command": ["/bin/sh", "-c", "sleep 1d"],
            "resources": size.resources,
            "securityContext": _RESTRICTED,
        }
        for name, size in sizes.items()
    ]
    spec = {"os": {"name": "linux"}, "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0}
    made = await cluster.start({"metadata": {"name": "resized"}, "spec": spec | {"containers": containers}})
    assert _specified(made) == _resources(sizes)
    assert not any("resizePolicy" in container for container in made["spec"]["containers"])
    await _are(cluster, sizes)
    return made


def _resources(sizes: Sizes) -> dict[str, Object]:
    return {name: size.resources for name, size in sizes.items()}


def _specified(pod: Object) -> dict[str, Object]:
    return {each["name"]: each.get("resources", {}) for each in pod["spec"]["containers"]}


async def _are(cluster: Cluster, sizes: Sizes) -> None:
    """Status and control groups are as wanted, nothing is being resized, and nothing was restarted."""

    def actuated(found: Object) -> bool:
        resources = {name: each.get("resources", {}) for name, each in container_statuses(found).items()}
        pending = any(has_condition(found, kind) for kind in ("PodResizePending", "PodResizeInProgress"))
        return resources == _resources(sizes) and is_ready(found) and not pending

    found = await cluster.pod_that("resized", actuated, f"resized to {sizes}")
    assert [each["restartCount"] for each in container_statuses(found).values()] == [0] * len(sizes)
    kinds = {each["type"] for each in found["status"]["conditions"]}
    assert kinds.isdisjoint({"PodResizePending", "PodResizeInProgress"})
    wrong = {name: told for name, size in sizes.items() if (told := await _wrong(cluster, name, size))}
    assert not wrong


_READ = """
cd /sys/fs/cgroup
if [ -e cgroup.controllers ]; then echo v2; cat cpu.weight; cut -d' ' -f1 cpu.max; cat memory.max
else echo v1; cat cpu/cpu.shares cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi
"""


async def _wrong(cluster: Cluster, container: str, size: Size) -> str:
    """What is wrong with a container's control group."""
    version, weight, quota, limit = (await cluster.exec("resized", "sh", "-c", _READ, container=container)).split()
    unified = version == "v2"
    shares = max(2, _milli(size.cpu or size.cpu_limit or "0") * 1024 // 1000)
    expected = {1 + (shares - 2) * 9999 // 262142 if unified else shares}
    if int(weight) not in expected:
        return f"weight {weight}, not {expected}"
    milli = _milli(size.cpu_limit or "0")
    # Runtimes round up to hundredths of a CPU (https://github.com/opencontainers/runc/issues/4622).
    quotas = {str(max(1000, each * 100)) for each in (milli, -(-milli // 10) * 10)}
    if quota not in (quotas if milli else {"max" if unified else "-1"}):
        return f"quota {quota}, not {quotas}"
    if size.memory_limit and int(limit) != quantity.parse(size.memory_limit).value():
        return f"limit {limit}, not {size.memory_limit}"
    return ""


def _milli(cpu: str) -> int:
    return quantity.parse(cpu).milli_value()
