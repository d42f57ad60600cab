"""A pod's phase, from the statuses of its containers.

Source: kubelet's getPhase; pod lifecycle, "Pod phase".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.kubelet.pods import restart, spec
from machinery.api.meta import Object

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
TERMINAL = (SUCCEEDED, FAILED)


@dataclass(slots=True)
class _Count:
    pending_init: int = 0
    pending_sidecars: int = 0
    failed_init: int = 0
    unknown: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    succeeded: int = 0
    to_restart: int = 0  # stopped, and will run again by its own policy


def phase_of(pod: Object, statuses: Sequence[Object], *, is_terminal: bool, has_initialized: bool) -> str:
    """The phase; `statuses` are those of init and app containers, `is_terminal`: nothing will be started any more."""
    by_name = {status["name"]: status for status in statuses}
    count = _Count()
    for container in spec.init_containers(pod):
        if spec.is_sidecar(container):
            _count_sidecar(by_name.get(container["name"]), count)
        else:
            _count_init(pod, container, by_name.get(container["name"]), count)
    for container in spec.containers(pod):
        _count_app(pod, container, by_name.get(container["name"]), count)
    return _decide(pod, count, is_terminal=is_terminal, has_initialized=has_initialized)


def _decide(pod: Object, count: _Count, *, is_terminal: bool, has_initialized: bool) -> str:
    policy = spec.restart_policy(pod)
    if count.failed_init and policy == "Never":
        return FAILED
    if count.pending_init or (count.pending_sidecars and not has_initialized) or count.waiting:
        return PENDING
    if count.running and not count.unknown:
        return RUNNING
    if count.stopped and not count.running and not count.unknown:
        if is_terminal and not spec.is_static(pod):
            return SUCCEEDED if count.stopped == count.succeeded else FAILED
        if count.to_restart:
            return RUNNING
        if count.stopped == count.succeeded:
            return SUCCEEDED
        return FAILED
    return PENDING


def _ended_before(status: Mapping[str, Object]) -> Object | None:
    return (status.get("lastState") or {}).get("terminated")


def _count_init(pod: Object, container: Object, status: Object | None, count: _Count) -> None:
    state = status["state"] if status else {}
    if status is None or state.get("running"):
        count.pending_init += 1
    elif state.get("terminated"):
        if state["terminated"]["exitCode"] != 0 and not restart.rule_matches(
            container, state["terminated"]["exitCode"]
        ):
            count.failed_init += 1
    elif state.get("waiting") is not None and _ended_before(status):
        if (_ended_before(status) or {}).get("exitCode") != 0:
            count.failed_init += 1
        if spec.restart_policy(pod) != "Never":
            count.pending_init += 1
    else:
        count.pending_init += 1


def _count_sidecar(status: Object | None, count: _Count) -> None:
    if status is None:
        count.unknown += 1
        return
    state = status["state"]
    if state.get("running"):
        if not status.get("started"):
            count.pending_sidecars += 1
        count.running += 1
    elif state.get("terminated"):
        pass  # neither keeps a pod running nor counts among what has stopped
    elif state.get("waiting") is not None:
        if not _ended_before(status):
            count.pending_sidecars += 1
            count.waiting += 1
    else:
        count.pending_sidecars += 1
        count.unknown += 1


def _count_app(pod: Object, container: Object, status: Object | None, count: _Count) -> None:
    state = status["state"] if status else {}
    if status is not None and state.get("running"):
        count.running += 1
    elif status is not None and state.get("terminated"):
        code = state["terminated"]["exitCode"]
        count.stopped += 1
        count.succeeded += code == 0
        count.to_restart += restart.restarts_after(pod, container, code)
    elif status is not None and state.get("waiting") is not None:
        ended = _ended_before(status)
        if ended:
            count.stopped += 1
            count.to_restart += restart.restarts_after(pod, container, ended["exitCode"])
        else:
            count.waiting += 1
    else:
        count.unknown += 1
