"""What a share takes of a device's capacity: rounded up to what the device's policy allows, or refused."""

from typing import Any

import pytest

from controlplane.scheduler.dynamic.capacity import consumption

RANGE = {"default": "1", "validRange": {"min": "2", "max": "4", "step": "2"}}


@pytest.mark.parametrize(
    ("asked", "value", "policy", "taken"),
    [
        (None, "8Gi", None, "8Gi"),  # nobody said how much: all of it
        ("3Gi", "8Gi", None, "3Gi"),
        ("9Gi", "8Gi", None, "9Gi"),  # whether there is so much is not asked here
        (None, "8", {"default": "1"}, "1"),
        ("3", "8", {"default": "1"}, "3"),
        ("1", "8", RANGE, "2"),
        ("3", "8", RANGE, "4"),
        ("4", "8", RANGE, "4"),
        ("6", "8", RANGE, None),
        (None, "8", RANGE, "1"),  # a default need not be in its own range
        ("1500Mi", "8Gi", {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}, "2Gi"),
        ("3", "8", {"default": "1", "validRange": {"min": "2"}}, "3"),
        ("2", "8", {"default": "1", "validValues": ["1", "3", "5"]}, "3"),
        ("3", "8", {"default": "1", "validValues": ["1", "3", "5"]}, "3"),
        ("6", "8", {"default": "1", "validValues": ["1", "3", "5"]}, None),
        (None, "8", {"default": "2", "validValues": ["1", "3", "5"]}, "2"),
    ],
)
def test_amounts(asked: str | None, value: str, policy: dict[str, Any] | None, taken: str | None) -> None:
    capacity = {"value": value} | ({"requestPolicy": policy} if policy else {})
    found = consumption({"memory": asked} if asked else {}, {"memory": capacity})
    assert (None if found is None else found["memory"].canonical()) == taken


def test_a_capacity_that_the_device_lacks_cannot_be_had() -> None:
    assert consumption({"memory": "1"}, {}) is None
    found = consumption({"memory": "1"}, {"memory": {"value": "2"}, "cores": {"value": "3"}})
    assert found is not None
    assert {name: amount.canonical() for name, amount in found.items()} == {"memory": "1", "cores": "3"}
