"""Whether the devices of an allocated claim are ready for a pod to be bound.

Source: KEP-5007 (device binding conditions); resource.k8s.io/v1 DeviceRequestAllocationResult, AllocatedDeviceStatus.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from machinery.api.meta import Object, condition, name_of, parse_time
from machinery.errors import NavarchError


class BindingFailed(NavarchError):
    """A driver says that a device can't be made ready."""


def waited_for(claim: Object) -> list[Object]:
    """The devices that a claim has been given and that have to be made ready first."""
    allocated = (claim.get("status") or {}).get("allocation") or {}
    results = (allocated.get("devices") or {}).get("results") or ()
    return [result for result in results if result.get("bindingConditions")]


def is_ready(claim: Object) -> bool:
    """Whether all of them are; of a claim without any at once. Raises BindingFailed."""
    if not (claim.get("status") or {}).get("allocation"):
        return False
    for result in waited_for(claim):
        told = _told(claim, result)
        if told is None:
            return False
        for kind in result.get("bindingFailureConditions") or ():
            failed = condition(told, kind)
            if failed is not None and failed.get("status") == "True":
                why = f"reason={failed.get('reason', '')}, message={json.dumps(failed.get('message', ''))}"
                raise BindingFailed(f"claim {name_of(claim)} binding failed: {why}")
        if any((condition(told, kind) or {}).get("status") != "True" for kind in result["bindingConditions"]):
            return False
    return True


def is_late(claim: Object, seconds: float, now: datetime) -> bool:
    """Whether its drivers have had so many seconds since it was allocated."""
    allocated = ((claim.get("status") or {}).get("allocation") or {}).get("allocationTimestamp")
    return bool(allocated and waited_for(claim) and (now - parse_time(allocated)).total_seconds() > seconds)


def _told(claim: Object, result: Object) -> Iterable[Object] | None:
    """The conditions that the driver reports of a device; None before it does."""
    for device in (claim.get("status") or {}).get("devices") or ():
        same = all(device.get(part) == result.get(part) for part in ("driver", "pool", "device", "shareID"))
        if same:
            conditions: Iterable[Object] = device.get("conditions") or ()
            return conditions
    return None
