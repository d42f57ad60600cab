"""What to do about a DaemonSet now. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/daemon/{daemon_controller,update}.go; KEP-1591 (maxSurge).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers.daemonset.nodes import is_updated, should_run, target_node
from controlplane.controllers.pods import is_available, is_finished, is_ready, phase_of
from machinery.api.intstr import scaled
from machinery.api.meta import Object, is_deleting, name_of, namespace_of, uid_of

BURST = 250


@dataclass
class DaemonPlan:
    """The writes of one reconcile."""

    create: list[str] = field(default_factory=list)
    """Names of nodes to make a pod for."""

    delete: list[Object] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    status: Object = field(default_factory=dict)


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Pods by the node that they are on, or meant for; oldest first.

    One that is being deleted and has ended only waits for its finalizers: another may take its place.
    """
    found: dict[str, list[Object]] = defaultdict(list)
    for pod in sorted(pods, key=_age):
        if is_deleting(pod) and is_finished(pod):
            continue
        if target := target_node(pod):
            found[target].append(pod)
    return found


def _age(pod: Object) -> tuple[bool, str, str]:
    """Bound ones first, then by age."""
    unbound = not (pod.get("spec") or {}).get("nodeName")
    return unbound, str(pod["metadata"].get("creationTimestamp") or ""), name_of(pod)


def plan_daemons(
    owner: Object,
    nodes: list[Object],
    pods: list[Object],
    digest: str,
    collisions: int,
    now: datetime,
    *,
    settled: bool,
    may_kill_failed: Callable[[str], bool] = lambda _: True,
) -> DaemonPlan:
    """Plan one step. `digest` is the hash of the present template; `settled`: the cache shows all earlier writes.

    `may_kill_failed(node)` tells whether a failed pod of the node may be replaced yet (back-off).
    """
    plan = DaemonPlan()
    placed = by_node(pods)
    min_ready = int(owner["spec"].get("minReadySeconds") or 0)
    if settled and not is_deleting(owner):
        _place(owner, nodes, pods, placed, digest, plan, now, may_kill_failed)
        strategy = owner["spec"].get("updateStrategy") or {}
        if not plan.create and not plan.delete and strategy.get("type", "RollingUpdate") == "RollingUpdate":
            _roll(owner, nodes, placed, digest, plan, now)
        del plan.create[BURST:], plan.delete[BURST:]
    plan.status = _status(owner, nodes, placed, digest, collisions, min_ready, now)
    if not settled:  # the present generation has not been acted upon
        del plan.status["observedGeneration"]
        if observed := (owner.get("status") or {}).get("observedGeneration"):
            plan.status["observedGeneration"] = observed
    return plan


# -- one pod a node ------------------------------------------------------------------------------------------------


def _place(
    owner: Object,
    nodes: list[Object],
    pods: list[Object],
    placed: dict[str, list[Object]],
    digest: str,
    plan: DaemonPlan,
    now: datetime,
    may_kill_failed: Callable[[str], bool],
) -> None:
    known = {name_of(node) for node in nodes}
    for node in nodes:
        name = name_of(node)
        run, stay = should_run(owner, node)
        present = placed.get(name, [])
        if not present:
            if run:
                plan.create.append(name)
        elif stay:
            running = _ended_replaced(name, present, plan, may_kill_failed)
            if not _surge_value(owner):
                plan.delete += running[1:]
            elif running:
                _leave_successor(owner, running, digest, plan, now)
            elif run:
                plan.create.append(name)  # what is being deleted need not be waited for
        else:
            plan.delete += [pod for pod in present if not is_deleting(pod)]
    # Pods that wait for a node that is gone would wait for ever.
    plan.delete += [
        pod
        for pod in pods
        if not pod["spec"].get("nodeName") and target_node(pod) not in known and not is_deleting(pod)
    ]


def _ended_replaced(
    node: str, present: list[Object], plan: DaemonPlan, may_kill_failed: Callable[[str], bool]
) -> list[Object]:
    """Delete pods that have ended; returns those that have not."""
    running = []
    for pod in present:
        if is_deleting(pod):
            continue
        where = f"daemon pod {namespace_of(pod)}/{name_of(pod)} on node {node}"
        if phase_of(pod) == "Failed":
            if may_kill_failed(node):
                plan.events.append(("Warning", "FailedDaemonPod", f"Found failed {where}, will try to kill it"))
                plan.delete.append(pod)
        elif phase_of(pod) == "Succeeded":
            told = f"Found succeeded {where}, will try to delete it"
            plan.events.append(("Normal", "SucceededDaemonPod", told))
            plan.delete.append(pod)
        else:
            running.append(pod)
    return running


def _leave_successor(owner: Object, running: list[Object], digest: str, plan: DaemonPlan, now: datetime) -> None:
    """With surge two pods may be on a node: an old one that is ready, and a new one until it is available."""
    keep = {uid_of(running[0])}
    old = next((p for p in running if not is_updated(p, owner, digest)), None)
    new = next((p for p in running if is_updated(p, owner, digest)), None)
    min_ready = int(owner["spec"].get("minReadySeconds") or 0)
    if new is not None:
        keep = {uid_of(new)}
        if old is not None and is_ready(old) and not is_available(new, min_ready, now):
            keep.add(uid_of(old))
    plan.delete += [pod for pod in running if uid_of(pod) not in keep]


# -- rolling update ------------------------------------------------------------------------------------------------


def _surge_value(owner: Object) -> bool:
    rolling = (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    return rolling.get("maxSurge") not in (None, 0, "0%")


def limits(owner: Object, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers of nodes; never both 0."""
    rolling = (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    unavailable = rolling.get("maxUnavailable")
    surge = scaled(rolling.get("maxSurge") or 0, desired, round_up=True)
    down = scaled(1 if unavailable is None else unavailable, desired, round_up=True)
    return (0, 1) if surge == 0 and down == 0 else (surge, down)


@dataclass(frozen=True)
class _Place:
    """The pods of one node in a rolling update."""

    node: str
    wanted: bool
    """Whether a pod should be started there."""

    old: Object | None = None
    new: Object | None = None
    crowded: bool = False
    """More than one pod of a kind: the node is tidied first."""


def _roll(
    owner: Object,
    nodes: list[Object],
    placed: dict[str, list[Object]],
    digest: str,
    plan: DaemonPlan,
    now: datetime,
) -> None:
    wanted = {name_of(node): should_run(owner, node)[0] for node in nodes}
    desired = sum(wanted.values())
    surge, unavailable = limits(owner, desired)
    min_ready = int(owner["spec"].get("minReadySeconds") or 0)

    def up(pod: Object) -> bool:
        return is_available(pod, min_ready, now)

    places = []
    for name in [*(n for n, run in wanted.items() if run or n in placed), *(n for n in placed if n not in wanted)]:
        live = [p for p in placed.get(name, ()) if not is_deleting(p)]
        old = [p for p in live if not is_updated(p, owner, digest)]
        new = [p for p in live if is_updated(p, owner, digest)]
        crowded = len(old) > 1 or len(new) > 1
        places.append(_Place(name, wanted.get(name, False), next(iter(old), None), next(iter(new), None), crowded))
    if surge:
        _roll_with_surge([p for p in places if p.node in wanted], surge, desired, plan, up)
    else:
        _roll_in_place(places, unavailable, plan, up)


def _roll_in_place(places: list[_Place], allowed: int, plan: DaemonPlan, up: Callable[[Object], bool]) -> None:
    down = 0
    dead: list[Object] = []
    alive: list[Object] = []
    for place in places:
        if place.crowded or (place.old is None) == (place.new is None):
            down += 1
        elif place.new is not None:
            down += not up(place.new)
        elif place.old is not None and not up(place.old):
            down += 1
            dead.append(place.old)  # it serves nobody: replacing it costs nothing
        elif place.old is not None:
            alive.append(place.old)
    plan.delete += dead + alive[: max(0, allowed - down)]


def _roll_with_surge(
    places: list[_Place], allowed: int, desired: int, plan: DaemonPlan, up: Callable[[Object], bool]
) -> None:
    surging = serving = 0
    dead: list[str] = []
    alive: list[str] = []
    leaving: list[Object] = []
    for place in places:
        old, new = place.old, place.new
        if place.crowded:
            surging += 1
            continue
        serving += any(up(pod) for pod in [old or new] if pod is not None)
        if old is None:
            continue
        if new is None and not place.wanted:
            # What has no place there any more stays until enough others serve in its stead.
            (leaving if up(old) else plan.delete).append(old)
        elif new is None:
            (alive if up(old) else dead).append(place.node)
        elif up(new):
            plan.delete.append(old)
        else:
            surging += 1
    plan.delete += leaving[: max(0, serving - desired)]
    plan.create += dead + alive[: max(0, allowed - surging)]


# -- status --------------------------------------------------------------------------------------------------------


def _status(
    owner: Object,
    nodes: list[Object],
    placed: dict[str, list[Object]],
    digest: str,
    collisions: int,
    min_ready: int,
    now: datetime,
) -> Object:
    desired = current = misscheduled = ready = available = updated = 0
    for node in nodes:
        run, _ = should_run(owner, node)
        pods = placed.get(name_of(node), [])
        if not run:
            misscheduled += bool(pods)
            continue
        desired += 1
        if pods:
            current += 1
            first = pods[0]
            if is_ready(first):
                ready += 1
                available += is_available(first, min_ready, now)
            updated += is_updated(first, owner, digest)
    status: Object = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
        "observedGeneration": owner["metadata"].get("generation", 0),
    }
    optional = {
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
    status |= {name: number for name, number in optional.items() if number}
    old = owner.get("status") or {}
    if collisions or old.get("collisionCount") is not None:
        status["collisionCount"] = collisions
    if old.get("conditions"):
        status["conditions"] = old["conditions"]
    return status
