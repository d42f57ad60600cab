"""Keeps the condition Dangling of every FlowSchema true.

Source: k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go (syncFlowSchemaStatus).
"""

from __future__ import annotations

import asyncio

from controlplane.apiserver.flowcontrol.controller import FlowControl
from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from machinery.api.meta import Object, format_time, name_of
from machinery.clock import Clock
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

_RETRY_SECONDS = 1.0
DANGLING = "Dangling"


def with_condition(schema: Object, *, exists: bool, now: str) -> Object | None:
    """The schema with a true condition; None if it has that already."""
    level = ((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name", "")
    told = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    wanted: Object = {
        "type": DANGLING,
        "status": "False" if exists else "True",
        "reason": "Found" if exists else "NotFound",
        "message": f"{told} and it exists" if exists else f"{told} but there is no such object",
    }
    status = schema.get("status") or {}
    conditions = status.get("conditions") or []
    present: Object = next((c for c in conditions if c.get("type") == DANGLING), {})
    if all(present.get(key) == value for key, value in wanted.items()):
        return None
    same = present.get("status") == wanted["status"] and present.get("lastTransitionTime")
    wanted["lastTransitionTime"] = present["lastTransitionTime"] if same else now
    others = [c for c in conditions if c.get("type") != DANGLING]
    return {**schema, "status": {**status, "conditions": [*others, wanted]}}


async def keep_statuses(flow: FlowControl, reader: Reader, api: Loopback, clock: Clock) -> None:
    """Write conditions whenever the configuration changes, until cancelled."""
    while True:
        await flow.changed.wait()
        flow.changed.clear()
        levels = {name_of(level) for level in reader.list(PRIORITYLEVELCONFIGURATIONS)}
        for schema in list(reader.list(FLOWSCHEMAS)):
            level = ((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name", "")
            changed = with_condition(schema, exists=level in levels, now=format_time(clock.now()))
            if changed is None:
                continue
            try:
                await api.update(FLOWSCHEMAS, changed, "status")
            except NavarchError as exc:  # another server was first, or the schema is gone
                log.debug("status of a flow schema not written", schema=name_of(schema), reason=str(exc))
                flow.changed.set()
                await asyncio.sleep(_RETRY_SECONDS)
