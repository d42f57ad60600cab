"""Claims of devices, classes of devices, and slices of them."""

from typing import Any

import pytest

from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.validation import device_slices, devices
from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import NAMESPACES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES
from machinery.api.meta import Object
from machinery.errors import Invalid

REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
EXACTLY: Object = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}
RESULT: Object = {"request": "r", "driver": "d.example.com", "pool": "p", "device": "gpu"}
ALLOCATION: Object = {"devices": {"results": [RESULT]}}
USER: Object = {"resource": "pods", "name": "web", "uid": "u"}
REPORT: Object = {"driver": "d.example.com", "pool": "p", "device": "gpu"}


def claim(status: Object | None = None, **changes: Any) -> Object:
    requests = [{"name": "r", "exactly": EXACTLY}]
    return {"metadata": {}, "spec": {"devices": {"requests": requests, **changes}}, "status": status or {}}


def exactly(**changes: Any) -> Object:
    return claim(requests=[{"name": "r", "exactly": EXACTLY | changes}])


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (claim(), []),
        (claim(requests=[{"name": "r", "firstAvailable": [{"name": "s", **EXACTLY}]}]), []),
        (
            claim(requests=[{"name": "r"}]),
            ["spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
        ),
        (
            claim(requests=[{"name": "r", "exactly": EXACTLY}] * 2),
            ['spec.devices.requests[1]: Duplicate value: "r"'],
        ),
        (claim(requests=[{}] * 33), ["spec.devices.requests: Too many: 33: must have at most 32 items"]),
        (exactly(deviceClassName=""), ["spec.devices.requests[0].exactly.deviceClassName: Required value"]),
        (
            exactly(allocationMode="All"),
            [
                "spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode "
                "is 'All'"
            ],
        ),
        (
            exactly(count=-1),
            ["spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"],
        ),
        (
            exactly(allocationMode="Some"),
            [
                'spec.devices.requests[0].exactly.allocationMode: Unsupported value: "Some": supported values: "All", '
                '"ExactCount"'
            ],
        ),
        (exactly(selectors=[{}]), ["spec.devices.requests[0].exactly.selectors[0].cel: Required value"]),
        (
            exactly(selectors=[{"cel": {"expression": "x" * 10241}}]),
            [
                "spec.devices.requests[0].exactly.selectors[0].cel.expression: Too long: may not be more than 10240 "
                "bytes"
            ],
        ),
        (
            claim(constraints=[{"requests": ["q"], "matchAttribute": "d.example.com/x"}]),
            [f'spec.devices.constraints[0].requests[0]: Invalid value: "q": {REFERENCE}'],
        ),
        (
            claim(constraints=[{"matchAttribute": "x"}]),
            [
                'spec.devices.constraints[0].matchAttribute: Invalid value: "x": a fully qualified name must be a '
                "domain and a name separated by a slash"
            ],
        ),
        (claim(config=[{}]), ["spec.devices.config[0].opaque: Required value"]),
        (
            claim(config=[{"opaque": {"driver": "d.example.com", "parameters": 1}}]),
            [
                'spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON '
                "object"
            ],
        ),
    ],
)  # fmt: skip
def test_a_claim(obj: Object, told: list[str]) -> None:
    assert [str(error) for error in devices.claim(obj)] == told


def test_what_a_claim_asks_for_stays() -> None:
    (error,) = devices.claim_update(exactly(count=2), claim())
    assert str(error) == (
        'spec: Invalid value: {"Devices":{"Requests":[{"Name":"r","Exactly":{"DeviceClassName":"c","Selectors":null,'
        '"AllocationMode":"ExactCount","Count":2,"AdminAccess":null,"Tolerations":null,"Capacity":null},'
        '"FirstAvailable":null}],"Constraints":null,"Config":null}}: field is immutable'
    )
    template = {"metadata": {}, "spec": {"spec": claim()["spec"]}}
    assert devices.claim_template(template) == devices.claim_template_update(template, template) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"allocation": ALLOCATION, "reservedFor": [USER], "devices": [REPORT]}, []),
        (
            {},
            {"reservedFor": [USER]},
            ["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
        ),
        (
            {"allocation": ALLOCATION},
            {"allocation": ALLOCATION, "reservedFor": [USER, USER]},
            ['status.reservedFor[1]: Duplicate value: "u"'],
        ),
        (
            {},
            {"allocation": {"devices": {"results": [RESULT | {"request": "q"}]}}},
            [f'status.allocation.devices.results[0].request: Invalid value: "q": {REFERENCE}'],
        ),
        (
            {},
            {"allocation": {"devices": {"config": [{"opaque": {"driver": "d", "parameters": {}}}]}}},
            ["status.allocation.devices.config[0].source: Required value"],
        ),
        (
            {},
            {"devices": [REPORT]},
            [
                'status.devices[0]: Invalid value: {"Driver":"d.example.com","Pool":"p","Device":"gpu",'
                '"ShareID":null}: must be an allocated device in the claim'
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_reported_of_a_claim(before: Object, after: Object, told: list[str]) -> None:
    assert [str(error) for error in devices.claim_status(claim(after), claim(before))] == told


def test_an_allocation_stays_as_long_as_there_is_one() -> None:
    other = {"devices": {"results": [RESULT | {"device": "other"}]}}
    (error,) = devices.claim_status(claim({"allocation": other}), claim({"allocation": ALLOCATION}))
    assert str(error).endswith("field is immutable")
    assert devices.claim_status(claim({}), claim({"allocation": ALLOCATION})) == []


def test_reports_about_devices_go_with_the_devices() -> None:
    old = claim({"allocation": ALLOCATION, "devices": [REPORT]})
    new = claim({"devices": [REPORT]})
    strategy_for(RESOURCECLAIMS).prepare_status_update(new, old, None)  # type: ignore[arg-type]
    assert new["status"] == {}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"extendedResourceName": "example.com/gpu"}, []),
        (
            {"extendedResourceName": "cpu"},
            ['spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name'],
        ),
        ({"selectors": [{"cel": {"expression": "device.driver == 'x'"}}]}, []),
    ],
)
def test_a_class(spec: Object, told: list[str]) -> None:
    assert [str(error) for error in devices.device_class({"metadata": {}, "spec": spec})] == told


def slice_of(device: Object | None = None, **changes: Any) -> Object:
    pool = {"name": "p", "resourceSliceCount": 1, "generation": 0}
    spec = {"driver": "d.example.com", "pool": pool, "nodeName": "n"}
    return {"metadata": {}, "spec": {**spec, "devices": [{"name": "gpu", **(device or {})}], **changes}}


ONE_OF = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (slice_of(), []),
        (slice_of({"attributes": {"x": {"string": "a"}}, "capacity": {"m": {"value": "1"}}}), []),
        (slice_of(driver=""), ["spec.driver: Required value", 'spec.driver: Invalid value: ""']),
        (
            slice_of(pool={"name": "p", "generation": -1}),
            [
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            ],
        ),
        (slice_of(nodeName=None), [f"spec: Required value: {ONE_OF}"]),
        (
            slice_of(allNodes=True),
            [f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {ONE_OF}, but multiple fields are set'],
        ),
        (
            slice_of({"attributes": {"x": {}}}),
            ['spec.devices[0].attributes[x]: Invalid value: "": exactly one value must be specified'],
        ),
        (
            slice_of({"attributes": {"x": {"version": "1"}}}),
            [
                'spec.devices[0].attributes[x].version: Invalid value: "1": must be a string compatible with '
                "semver.org spec 2.0.0"
            ],
        ),
        (
            slice_of({"capacity": {"m": {"value": "1", "requestPolicy": {}}}}),
            ["spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"],
        ),
        (
            slice_of({"taints": [{"key": "a"}]}),
            ["spec.devices[0].taints[0].effect: Required value"],
        ),
        (
            slice_of({"nodeName": "n"}),
            [
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if "
                "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
            ],
        ),
        (
            slice_of(sharedCounters=[{"name": "s"}]),
            [
                'spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed',
                "spec.sharedCounters[0].counters: Required value",
            ],
        ),
    ],
)
def test_a_slice(obj: Object, told: list[str]) -> None:
    found = [str(error).partition(": a lowercase RFC 1123")[0] for error in device_slices.resource_slice(obj)]
    assert found == told


def test_a_slice_stays_with_its_pool_and_node() -> None:
    errors = device_slices.resource_slice_update(slice_of(nodeName="m"), slice_of())
    assert [str(error) for error in errors] == ['spec.nodeName: Invalid value: "m": field is immutable']


async def test_what_others_use_is_looked_into_only_from_namespaces_marked_for_it() -> None:
    async with running_apiserver() as server:
        api = server.server.loopback
        told = "requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
        asked = exactly(adminAccess=True)
        template = {"spec": {"spec": asked["spec"]}}
        for resource, obj in ((RESOURCECLAIMS, asked), (RESOURCECLAIMTEMPLATES, template)):
            with pytest.raises(Invalid, match=rf"spec.devices.requests\[0\].adminAccess: Forbidden: .* {told}"):
                await api.create(resource, {**obj, "metadata": {"name": "c"}}, "default")
        made = await api.create(RESOURCECLAIMS, {**exactly(), "metadata": {"name": "c"}}, "default")
        granted = {"allocation": {"devices": {"results": [RESULT | {"adminAccess": True}]}}}
        with pytest.raises(Invalid, match=rf"status.allocation.devices.results\[0\].adminAccess: Forbidden: .* {told}"):
            await api.update(RESOURCECLAIMS, {**made, "status": granted}, "status")
        namespace = await api.get(NAMESPACES, "default")
        namespace["metadata"]["labels"]["resource.kubernetes.io/admin-access"] = "true"
        await api.update(NAMESPACES, namespace)
        await api.update(RESOURCECLAIMS, {**made, "status": granted}, "status")
        await api.create(RESOURCECLAIMS, {**asked, "metadata": {"name": "d"}}, "default")
