"""Devices of plugins: which a pod gets, who has the last word, and what is remembered of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from kubelet_values import pod, sized

from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.deviceplugins import HEALTHY, PLUGIN, DevicePlugins
from agent.kubelet.plugins.devicerecords import DeviceRecords
from agent.kubelet.plugins.devices import DeviceManager
from agent.kubelet.plugins.serving import Method, Refused, SocketServer
from agent.kubelet.resources.hints import ANY, Hint
from agent.kubelet.resources.topologymanager import AdmissionError
from machinery.api.meta import Object
from machinery.testing.clock import FakeClock

THING = "example.com/thing"
# Written by upstream's kubelet, found in the wild.
UPSTREAM = (
    '{"Data":{"PodDeviceEntries":[{"PodUID":"bf52b2cd-b611-4e79-86b1-280b283185c3","ContainerName":"check",'
    '"ResourceName":"nvidia.com/gpu","DeviceIDs":{"-1":["tegra"]},'
    '"AllocResp":"Ch8KFk5WSURJQV9WSVNJQkxFX0RFVklDRVMSBXRlZ3Jh"}],"RegisteredDevices":{"nvidia.com/gpu":["tegra"]}},'
    '"Checksum":3660592824}'
)


def asking(count: int, name: str = "c", **fields: Any) -> Object:
    return sized(name, limits={THING: str(count)}, **fields)


def manager(directory: Path, nodes: dict[str, int], *, running: bool = False) -> DeviceManager:
    """A plugin of devices at these NUMA nodes (-1: they don't say) has registered."""
    (directory / "kubelet_internal_checkpoint").unlink(missing_ok=True)
    records = DeviceRecords(str(directory))
    records.registered = {THING: []}
    made = DeviceManager(
        DevicePlugins(str(directory), FakeClock(), records, lambda: None), records, (0, 1), lambda *_: running
    )
    resource = made.plugins.get(THING)
    assert resource is not None
    resource.gone_at = None
    for name, node in nodes.items():
        at = pb.TopologyInfo(nodes=[pb.NUMANode(ID=node)]) if node >= 0 else None
        resource.devices[name] = pb.Device(ID=name, health=HEALTHY, topology=at)
    return made


def allocate(devices: DeviceManager, wanted: Object, hint: Hint = ANY) -> None:
    for container in [*(wanted["spec"].get("initContainers") or ()), *wanted["spec"]["containers"]]:
        devices.allocate(wanted, container, hint)


@asynccontextmanager
async def answering(devices: DeviceManager, path: Path, **answers: Callable[[Any], Any]) -> AsyncIterator[None]:
    def method(request: Any, answer: Callable[[Any], Any]) -> Method:
        async def made(message: Any) -> Any:
            return answer(message)

        return Method(request, made)

    requests = {"Allocate": pb.AllocateRequest, "GetPreferredAllocation": pb.PreferredAllocationRequest}
    methods = {name: method(requests[name], answer) for name, answer in answers.items()}
    server = SocketServer(str(path), PLUGIN.lstrip("/"), methods)
    await server.start()
    resource = devices.plugins.get(THING)
    assert resource is not None
    resource.channel = PluginChannel(str(path))
    try:
        yield
    finally:
        await resource.channel.close()
        await server.stop()


def says(**envs: str) -> pb.AllocateResponse:
    return pb.AllocateResponse(container_responses=[pb.ContainerAllocateResponse(envs=envs)])


async def test_too_few_devices(tmp_path: Path) -> None:
    devices = manager(tmp_path, {"a": 0})
    told = r"^requested number of devices unavailable for example.com/thing. Requested: 2, Available: 1$"
    with pytest.raises(AdmissionError, match=told):
        allocate(devices, pod(asking(2)))


async def test_devices_are_taken_where_the_hint_says(tmp_path: Path) -> None:
    devices = manager(tmp_path, {"a": 0, "b": 1, "d": 1, "e": -1})
    wanted = pod(asking(2))
    hints = devices.hints(wanted, wanted["spec"]["containers"][0])[THING]
    assert hints == [Hint(0b10, True), Hint(0b11, False)]
    assert devices.pod_hints(wanted) == {THING: hints}
    allocate(devices, wanted, Hint(0b10, True))
    assert devices.held("uid-p", "c") == {THING: ["b", "d"]}
    assert devices.hints(wanted, wanted["spec"]["containers"][0])[THING] == [Hint(0b10, True), Hint(0b11, False)]
    other = pod(asking(3), name="q")
    assert devices.hints(other, other["spec"]["containers"][0])[THING] == []


async def test_devices_that_do_not_say_where_they_are_give_no_hints(tmp_path: Path) -> None:
    devices = manager(tmp_path, {"a": -1})
    wanted = pod(asking(1))
    assert devices.hints(wanted, wanted["spec"]["containers"][0]) == {THING: None}


async def test_devices_of_init_containers_are_used_again_and_those_of_sidecars_are_not(tmp_path: Path) -> None:
    devices = manager(tmp_path, dict.fromkeys("abd", -1))
    init = [asking(2, "i"), asking(1, "s", restartPolicy="Always")]
    allocate(devices, pod(asking(2), initContainers=init))
    own = {name: devices.held("uid-p", name)[THING] for name in "isc"}
    assert own == {"i": ["a", "b"], "s": ["a"], "c": ["b", "d"]}


async def test_a_plugin_that_says_no_has_the_pod_rejected(tmp_path: Path) -> None:
    devices, wanted = manager(tmp_path, {"a": -1}), pod(asking(1))
    allocate(devices, wanted)

    def refuse(_: Any) -> Any:
        raise Refused("no luck")

    async with answering(devices, tmp_path / "thing.sock", Allocate=refuse):
        with pytest.raises(AdmissionError) as raised:
            await devices.ask(wanted)
    verdict = raised.value.verdict()
    assert (verdict.reason, verdict.message) == (
        "UnexpectedAdmissionError",
        "Allocate failed due to rpc error: code = InvalidArgument desc = no luck, which is unexpected",
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (pb.AllocateResponse(), "no containers return in allocation response"),
        (pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=["\x7f\x7f"])]), "unmarshal"),
    ],
)
async def test_a_plugin_that_answers_rubbish_has_the_pod_rejected(tmp_path: Path, answer: Any, told: str) -> None:
    devices, wanted = manager(tmp_path, {"a": -1}), pod(asking(1))
    allocate(devices, wanted)
    async with answering(devices, tmp_path / "thing.sock", Allocate=lambda _: answer):
        with pytest.raises(AdmissionError, match=told):
            await devices.ask(wanted)


async def test_plugins_that_are_gone_have_the_pod_rejected(tmp_path: Path) -> None:
    devices, wanted = manager(tmp_path, {"a": -1}), pod(asking(1))
    allocate(devices, wanted)
    with pytest.raises(AdmissionError, match=r"endpoint example\.com/thing has been stopped"):
        await devices.ask(wanted)


async def test_a_plugin_may_prefer_others_and_all_is_remembered_as_upstream_does(tmp_path: Path) -> None:
    devices, wanted = manager(tmp_path, {"a": 0, "b": 0, "d": 0, "e": 1}), pod(asking(1))
    resource = devices.plugins.get(THING)
    assert resource is not None
    resource.options.get_preferred_allocation_available = True
    allocate(devices, wanted, Hint(0b01, True))
    asked: list[Any] = []

    def prefer(request: Any) -> Any:
        asked.append(request.container_requests[0])
        chosen = pb.ContainerPreferredAllocationResponse(deviceIDs=["e", "d"])
        return pb.PreferredAllocationResponse(container_responses=[chosen])

    answers = {"Allocate": lambda _: says(A="1"), "GetPreferredAllocation": prefer}
    async with answering(devices, tmp_path / "thing.sock", **answers):
        await devices.ask(wanted)
    assert (list(asked[0].available_deviceIDs), asked[0].allocation_size) == (["a", "b", "d"], 1)
    assert devices.held("uid-p", "c") == {THING: ["d"]}
    kept = json.loads((tmp_path / "kubelet_internal_checkpoint").read_text())
    assert kept["Data"]["PodDeviceEntries"][0]["DeviceIDs"] == {"0": ["d"]}
    again = DeviceRecords(str(tmp_path))
    assert [dict(r.envs) for r in again.responses("uid-p", "c")] == [{"A": "1"}]
    assert again.pending("uid-p") == []


async def test_records_of_upstreams_kubelet_are_taken_over(tmp_path: Path) -> None:
    (tmp_path / "kubelet_internal_checkpoint").write_text(UPSTREAM)
    records = DeviceRecords(str(tmp_path))
    assert records.taken("nvidia.com/gpu") == {"tegra"}
    (response,) = records.responses("bf52b2cd-b611-4e79-86b1-280b283185c3", "check")
    assert dict(response.envs) == {"NVIDIA_VISIBLE_DEVICES": "tegra"}
    records.save()
    assert (tmp_path / "kubelet_internal_checkpoint").read_text() == UPSTREAM
    records.forget("bf52b2cd-b611-4e79-86b1-280b283185c3")
    assert records.known() == set()


@pytest.mark.parametrize("text", ["{", "[]", UPSTREAM.replace("3660592824", "1"), '{"Data":{}}'])
async def test_records_that_cannot_be_read_are_done_without(tmp_path: Path, text: str) -> None:
    (tmp_path / "kubelet_internal_checkpoint").write_text(text)
    assert DeviceRecords(str(tmp_path)).known() == set()


@pytest.mark.parametrize(("running", "told"), [(True, ""), (False, "no healthy devices present; cannot allocate")])
async def test_after_a_restart_only_what_runs_goes_on_without_its_plugin(
    tmp_path: Path, running: bool, told: str
) -> None:
    devices, wanted = manager(tmp_path, {"a": -1}, running=running), pod(asking(1))
    allocate(devices, wanted)
    resource = devices.plugins.get(THING)
    assert resource is not None
    resource.gone_at = 0.0
    if not told:
        allocate(devices, wanted)
        return
    with pytest.raises(AdmissionError, match=told):
        allocate(devices, wanted)


async def test_what_a_claim_gives_no_plugin_gives_as_well(tmp_path: Path) -> None:
    devices = manager(tmp_path, {"a": -1})
    uses = {"containerName": "c", "resourceName": THING, "requestName": "r"}
    special = {"resourceClaimName": "s", "requestMappings": [uses]}
    allocate(devices, pod(asking(1)) | {"status": {"extendedResourceClaimStatus": special}})
    assert not devices.held("uid-p", "c")
    allocate(devices, pod(asking(1)) | {"status": {}})
    assert devices.held("uid-p", "c") == {THING: ["a"]}
