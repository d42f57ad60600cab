"""Devices that a driver has to make ready before pods are bound."""

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.scheduler.dynamic.readiness import BindingFailed, is_late, is_ready

Object = dict[str, Any]


def result(device: str, **more: Any) -> Object:
    conditions = {"bindingConditions": ["Attached", "Warm"], "bindingFailureConditions": ["Broken"]}
    return {"driver": "d", "pool": "p", "device": device, **conditions, **more}


def told(device: str, *true: str, false: tuple[str, ...] = (), **more: Any) -> Object:
    conditions = [{"type": kind, "status": "True", "reason": "R", "message": 'a "b"'} for kind in true]
    conditions += [{"type": kind, "status": "False"} for kind in false]
    return {"driver": "d", "pool": "p", "device": device, "conditions": conditions, **more}


def claim(results: list[Object], *devices: Object) -> Object:
    allocated = {"devices": {"results": results}, "allocationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": {"name": "c"}, "status": {"allocation": allocated, "devices": list(devices)}}


PLAIN = {"driver": "d", "pool": "p", "device": "x"}
BOTH = ("Attached", "Warm")


@pytest.mark.parametrize(
    ("given", "ready"),
    [
        ({"metadata": {"name": "c"}}, False),
        (claim([PLAIN]), True),
        (claim([result("x")]), False),
        (claim([result("x")], told("x", "Attached")), False),
        (claim([result("x")], told("x", "Attached", false=("Warm",))), False),
        (claim([result("x")], told("y", *BOTH)), False),
        (claim([result("x")], told("x", *BOTH, false=("Broken",))), True),
        (claim([result("x"), result("y")], told("x", *BOTH)), False),
        (claim([result("x"), PLAIN, result("y")], told("x", *BOTH), told("y", *BOTH)), True),
        (claim([result("x", shareID="1")], told("x", *BOTH, shareID="2")), False),
        (claim([result("x", shareID="1")], told("x", *BOTH, shareID="1")), True),
    ],
)
def test_a_claim_is_ready_when_all_conditions_of_its_devices_are_true(given: Object, ready: bool) -> None:
    assert is_ready(given) is ready


def test_a_failure_is_told() -> None:
    with pytest.raises(BindingFailed) as raised:
        is_ready(claim([result("x")], told("x", *BOTH, "Broken")))
    assert str(raised.value) == 'claim c binding failed: reason=R, message="a \\"b\\""'


@pytest.mark.parametrize(
    ("results", "minute", "late"), [([result("x")], 9, False), ([result("x")], 11, True), ([PLAIN], 11, False)]
)
def test_drivers_have_their_time(results: list[Object], minute: int, late: bool) -> None:
    assert is_late(claim(results), 600.0, datetime(2026, 1, 1, 0, minute, tzinfo=UTC)) is late
