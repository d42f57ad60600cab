"""Waiting until drivers have made the devices of a pod ready, before it is bound.

Source: KEP-5007; k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources (PreBind).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from controlplane.scheduler import metrics
from controlplane.scheduler.dynamic import readiness
from controlplane.scheduler.dynamic.claims import Claims
from controlplane.scheduler.dynamic.readiness import BindingFailed
from controlplane.scheduler.dynamic.writing import ClaimNotBound
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.recorder import Action, Recorder
from machinery.api.meta import Object, name_of
from machinery.clock import Clock

_LOOK_SECONDS = 5.0
_PENDING = Action("Normal", "BindingConditionsPending", "Scheduling")


class BindingTimeout(ClaimNotBound):
    """Drivers have had their time."""


class DeviceWait:
    """Waits for claims whose devices have conditions of binding, `seconds` at most (bindingTimeout)."""

    def __init__(self, claims: Claims, recorder: Recorder, seconds: float, clock: Clock) -> None:
        self._claims = claims
        self._recorder = recorder
        self._seconds = seconds
        self._clock = clock
        self._changed = asyncio.Event()
        claims.informer.on_change(lambda old, new: self._changed.set())

    def is_lost(self, claim: Object) -> bool:
        """Whether the devices of an allocated claim could not be made ready, or not in time."""
        try:
            return not readiness.is_ready(claim) and self._is_late(claim)
        except BindingFailed:
            return True

    def _is_late(self, claim: Object) -> bool:
        return readiness.is_late(claim, self._seconds, self._clock.now())

    async def until_ready(self, pod: Pod, keys: Sequence[str], node_name: str) -> None:
        """Wait for the claims of these keys. Raises BindingFailed, ClaimNotBound."""
        found = [claim for key in keys if (claim := self._claims.get(key)) is not None]
        drivers = {result["driver"] for claim in found for result in readiness.waited_for(claim)}
        if not drivers:
            return
        note = f"waiting for binding conditions for device on node {node_name}"
        self._recorder.record(pod.object, pod.scheduler_name, _PENDING, note)
        started, status = time.perf_counter(), "failure"
        try:
            await self._all_ready(keys)
            status = "success"
        except BindingTimeout:
            status = "timeout"
            raise
        finally:
            for driver in drivers:
                metrics.BINDING_CONDITIONS.labels(pod.scheduler_name, driver, status).inc()
                seconds = metrics.BINDING_CONDITIONS_SECONDS.labels(pod.scheduler_name, driver, status)
                seconds.observe(time.perf_counter() - started)

    async def _all_ready(self, keys: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                while not self._are_ready(keys):
                    self._changed.clear()
                    try:
                        async with asyncio.timeout(_LOOK_SECONDS):
                            await self._changed.wait()
                    except TimeoutError:
                        continue  # a claim's time may be up without anything having changed
        except TimeoutError:
            raise BindingTimeout("device binding timeout") from None

    def _are_ready(self, keys: Sequence[str]) -> bool:
        for key in keys:
            claim = self._claims.get(key)
            if claim is None:
                raise ClaimNotBound(f'resourceclaim "{key.partition("/")[2]}" not found')
            if not readiness.is_ready(claim):
                if self._is_late(claim):
                    raise BindingTimeout(f"claim {name_of(claim)} binding timeout")
                return False
        return True
