"""Expressions that choose devices."""

from __future__ import annotations

import pytest

from controlplane.scheduler.dynamic.selectors import SelectorInvalid, compiled, matches, variables

DEVICE = {
    "name": "gpu-0",
    "attributes": {
        "model": {"string": "a100"},
        "cores": {"int": 8},
        "other.example.com/fast": {"bool": True},
        "driverVersion": {"version": "1.10.0"},
    },
    "capacity": {"memory": {"value": "40Gi"}},
}


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ('device.driver == "gpu.example.com"', True),
        ('device.attributes["gpu.example.com"].model == "a100"', True),
        ('device.attributes["gpu.example.com"].model == "b200"', False),
        ('device.attributes["gpu.example.com"].cores > 4', True),
        ('device.attributes["other.example.com"].fast', True),
        ('device.attributes["gpu.example.com"].driverVersion.isGreaterThan(semver("1.9.0"))', True),
        ('device.capacity["gpu.example.com"].memory.compareTo(quantity("40Gi")) >= 0', True),
        ('device.capacity["gpu.example.com"].memory.isGreaterThan(quantity("80Gi"))', False),
        ("device.allowMultipleAllocations", False),
        ('"x" in device.attributes["nobody.example.com"]', False),
        ('has(device.attributes["gpu.example.com"].model)', True),
    ],
)
def test_expressions_choose_devices(expression: str, chosen: bool) -> None:
    assert matches(expression, variables("gpu.example.com", DEVICE)) is chosen


@pytest.mark.parametrize("expression", ["device.", "device.nothing == 1", "unknown", 'device.driver == "a" &&'])
def test_expressions_that_are_none_are_told(expression: str) -> None:
    with pytest.raises(SelectorInvalid, match="CEL compile error: "):
        compiled(expression)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ('device.attributes["nobody.example.com"].x == 1', "CEL runtime error: no such key: x"),
        ('device.attributes["gpu.example.com"].colour == "red"', "CEL runtime error: no such key: colour"),
        ("device.driver", "CEL compile error: must evaluate to bool"),
    ],
)
def test_what_has_no_answer_for_a_device_is_an_error_and_no_refusal(expression: str, told: str) -> None:
    with pytest.raises(SelectorInvalid, match=told):
        matches(expression, variables("gpu.example.com", DEVICE))
