"""Room for a critical pod that doesn't fit: which pods have to go. Pure.

Source: kubelet's preemption/preemption.go: the fewest pods of the best class, closest to what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.kubelet.pods import qos, spec
from machinery.api import podresources
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

REASON, MESSAGE = "Preempting", "Preempted in order to admit critical pod"

Missing = dict[str, int]  # by resource: nanos; for "pods" a count


def missing(pod: Object, others: Iterable[Object], allocatable: Mapping[str, Quantity]) -> Missing:
    """What is missing for a pod to fit beside the others."""
    others = list(others)
    found: Missing = {}
    most = allocatable.get("pods")
    if most is not None and len(others) + 1 > most.value():
        found["pods"] = len(others) + 1 - most.value()
    used = [podresources.of_pod(other) for other in others]
    for name, amount in podresources.of_pod(pod).items():
        known = allocatable.get(name)
        if known is None:
            continue
        total = amount.nanos + sum(asked[name].nanos for asked in used if name in asked)
        if total > known.nanos:
            found[name] = total - known.nanos
    return found


def victims(pod: Object, others: Iterable[Object], lacking: Missing) -> list[Object] | None:
    """The pods to end so that nothing is missing any more; None if even all that may go would not do."""
    candidates = [other for other in others if _may_preempt(pod, other)]
    by_class = {kind: [c for c in candidates if qos.qos_class(c) == kind] for kind in _ORDER}
    everything = [c for kind in _ORDER for c in by_class[kind]]
    if _left(everything, lacking):
        return None
    chosen: list[Object] = []
    # The better the class, the fewer: a guaranteed pod goes only for what all the others can't give.
    for index, kind in enumerate(reversed(_ORDER)):
        lower = [c for other in list(reversed(_ORDER))[index + 1 :] for c in by_class[other]]
        chosen += _fewest(by_class[kind], _left([*chosen, *lower], lacking))
    return chosen


_ORDER = (qos.BEST_EFFORT, qos.BURSTABLE, qos.GUARANTEED)


def _may_preempt(pod: Object, other: Object) -> bool:
    if spec.is_critical(pod) and not spec.is_critical(other):
        return True
    return int(pod["spec"].get("priority") or 0) > int(other["spec"].get("priority") or 0)


def _gives(pod: Object, name: str) -> int:
    if name == "pods":
        return 1
    amount = podresources.of_pod(pod).get(name)
    return amount.nanos if amount is not None else 0


def _left(going: Iterable[Object], lacking: Missing) -> Missing:
    going = list(going)
    left = {name: amount - sum(_gives(pod, name) for pod in going) for name, amount in lacking.items()}
    return {name: amount for name, amount in left.items() if amount > 0}


def _fewest(candidates: list[Object], lacking: Missing) -> list[Object]:
    """As few as possible, each time the one that comes closest to what is missing."""
    chosen: list[Object] = []
    remaining, left = list(candidates), dict(lacking)
    while left and remaining:

        def distance(pod: Object, left: Missing = left) -> tuple[float, int]:
            far = sum((max(0, amount - _gives(pod, name)) / amount) ** 2 for name, amount in left.items())
            return far, sum(_gives(pod, name) for name in left)

        best = min(remaining, key=distance)
        remaining.remove(best)
        chosen.append(best)
        left = _left([best], left)
    return chosen
