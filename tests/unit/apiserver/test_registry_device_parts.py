"""Parts of devices: conditions of binding, shares, networks, how much can be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import device_parts, device_slices, devices
from controlplane.apiserver.registry.validation.expressions import wrong_selector
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object


def _told(errors: list[FieldError]) -> list[str]:
    return [f"{e.field}: {e.body}" for e in errors]


@pytest.mark.parametrize(
    ("wanted", "failures", "told"),
    [
        ([], [], []),
        (["a/b"], ["c"], []),
        (
            ["a"],
            [],
            ["d.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use "
             "bindingConditions"],
        ),
        (
            [],
            ["a"],
            ["d.bindingConditions: Invalid value: null: bindingConditions are required to use "
             "bindingFailureConditions"],
        ),
        (
            ["a", "a"],
            ["a"],
            [
                'd.bindingConditions[1]: Duplicate value: "a"',
                'd.bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must not overlap with '
                "bindingConditions",
            ],
        ),
        (list("abcde"), ["f"], ["d.bindingConditions: Too many: 5: must have at most 4 items"]),
    ],
)  # fmt: skip
def test_conditions_of_binding(wanted: list[str], failures: list[str], told: list[str]) -> None:
    holder = {"bindingConditions": wanted, "bindingFailureConditions": failures}
    assert _told(device_parts.binding("d", holder)) == told


@pytest.mark.parametrize(
    ("uid", "told"),
    [
        ("a671734a-e8e5-11e4-8fde-42010af09327", ""),
        ("A671734a-e8e5-11e4-8fde-42010af09327", device_parts._NORMAL),
        ("a671734ae8e511e48fde42010af09327", device_parts._NORMAL),
        ("urn:uuid:a671734a-e8e5-11e4-8fde-42010af09327", device_parts._NORMAL),
        ("x", "error validating uid: invalid UUID length: 1"),
        ("a671734a-e8e5-11e4-8fde-42010af0932g", "error validating uid: invalid UUID format"),
        ("[a671734a-e8e5-11e4-8fde-42010af09327]", "error validating uid: invalid bracketed UUID format"),
        ("urn.uuid:a671734a-e8e5-11e4-8fde-42010af09327", 'error validating uid: invalid urn prefix: "urn.uuid:"'),
    ],
)
def test_shares(uid: str, told: str) -> None:
    assert _told(device_parts.share_id("s", uid)) == ([f's: Invalid value: "{uid}": {told}'] if told else [])


def test_networks() -> None:
    ips = ["10.9.8.7/24", "010.1.1.1/8", "::ffff:10.0.0.1/120", "x", "10.9.8.7/24"]
    data = {"interfaceName": "e" * 257, "hardwareAddress": "h" * 129, "ips": ips}
    assert _told(device_parts.network_data("n", data)) == [
        "n.interfaceName: Too long: may not be more than 256 bytes",
        "n.hardwareAddress: Too long: may not be more than 128 bytes",
        'n.ips[1]: Invalid value: "010.1.1.1/8": must be in canonical form ("10.1.1.1/8")',
        'n.ips[2]: Invalid value: "::ffff:10.0.0.1/120": must be in canonical form ("10.0.0.1/24")',
        'n.ips[3]: Invalid value: "x": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)',
        'n.ips[4]: Duplicate value: "10.9.8.7/24"',
    ]


def _policy(**policy: Any) -> list[str]:
    return _told(device_parts.request_policy("p", {"value": "10", "requestPolicy": policy}))


def test_values_that_can_be_asked_for() -> None:
    assert _policy(default="1", validValues=["1", "2"]) == []
    assert _policy(validValues=["1"]) == ["p.default: Required value: required when validValues is defined"]
    assert _policy(default="1", validValues=["1"], validRange={}) == [
        'p: Forbidden: exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same '
        "time"
    ]
    assert _policy(default="3", validValues=["2", "1", "11"]) == [
        'p.validValues[1]: Invalid value: "1": values must be sorted in ascending order',
        'p.validValues[2]: Invalid value: "11": option is larger than capacity value: 10',
        'p.validValues: Invalid value: "3": default value is not valid according to the requestPolicy',
    ]


def test_ranges_that_can_be_asked_for() -> None:
    assert _policy(default="4", validRange={"min": "2", "max": "8", "step": "2"}) == []
    assert _policy(default="4", validRange={}) == [
        "p.validRange.min: Required value: required when validRange is defined"
    ]
    assert _policy(default="1", validRange={"min": "2", "max": "11", "step": "9"}) == [
        'p.validRange.min: Invalid value: "1": default is less than min: 2',
        'p.validRange.max: Invalid value: "11": max is larger than capacity value: 10',
        'p.validRange.step: Invalid value: "9": one step 11 is larger than capacity value: 10',
        'p.validRange.step: Invalid value: "1": value is not a multiple of a given step (9) from (2)',
    ]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("device.attributes['a.b'].c", ""),
        ("device.capacity['a.b'].c.compareTo(quantity('1')) > 0", ""),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        (
            "device.foo",
            "compilation failed: ERROR: <input>:1:7: undefined field 'foo'\n | device.foo\n | ......^",
        ),
    ],
)  # fmt: skip
def test_what_chooses_devices(expression: str, told: str) -> None:
    assert _told(wrong_selector("e", expression)) == ([f'e: Invalid value: "{expression}": {told}'] if told else [])


def _slice(**device: Any) -> Object:
    pool = {"name": "p", "resourceSliceCount": 1, "generation": 0}
    return {"spec": {"driver": "d.x", "pool": pool, "nodeName": "n", "devices": [{"name": "gpu", **device}]}}


def test_devices_use_few_counters() -> None:
    counter = {"value": "1"}
    sets = [{"counterSet": name, "counters": {"c": counter}} for name in "abc"]
    assert _told(device_slices.resource_slice(_slice(consumesCounters=sets))) == [
        "spec.devices[0].consumesCounters: Too many: 3: must have at most 2 items"
    ]
    many = [{"counterSet": "a", "counters": {f"c{i}": counter for i in range(33)}}]
    assert _told(device_slices.resource_slice(_slice(consumesCounters=many))) == [
        "spec.devices[0].consumesCounters[0].counters: Too many: 33: must have at most 32 items"
    ]
    wrong = [{"counterSet": "a", "counters": {"C": counter}}]
    (error,) = device_slices.resource_slice(_slice(consumesCounters=wrong))
    assert error.field == "spec.devices[0].consumesCounters[0].counters[C]"


def test_taints_that_stay_are_not_looked_at_again() -> None:
    odd = _slice(taints=[{"key": "a", "effect": "Odd"}])
    assert device_slices.resource_slice_update(odd, odd) == []
    assert len(device_slices.resource_slice_update(odd, _slice())) == 1


def test_names_of_attributes_lose_their_middle_in_paths() -> None:
    key = "a" * 60 + "." + "b" * 60
    assert device_parts.shortened(key, 96) == key[:47] + "..." + key[-46:]


def test_tolerations_say_how_they_compare() -> None:
    request = {"deviceClassName": "c", "allocationMode": "All", "tolerations": [{"operator": "Equal"}, {"key": "a"}]}
    spec = {"devices": {"requests": [{"name": "r", "exactly": request}]}}
    at = "spec.devices.requests[0].exactly.tolerations"
    assert _told(devices.claim({"spec": spec})) == [f"{at}[1].operator: Required value"]


def test_parameters_may_have_huge_numbers() -> None:
    assert devices.raw_object("p", {"a": 2**64}) == []
