"""Budgets, quotas, autoscaling, namespaces, roles: what each decides."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from controller_objects import ago, metadata, pod

from controlplane.controllers.autoscaling.calculator import (
    NoReplicas,
    Periods,
    PodMetric,
    Tolerance,
    by_average,
    by_utilization,
    by_value,
    by_value_per_pod,
    requests_of,
)
from controlplane.controllers.autoscaling.limits import Recommendation, ScaleEvent, limit
from controlplane.controllers.clusterroles import aggregated_rules
from controlplane.controllers.discovery import Discovered
from controlplane.controllers.disruption import plan as budgets
from controlplane.controllers.namespaces import Leftover, deletable, grace_of, plan_conditions
from controlplane.controllers.quota import count, plan_status, same_amounts
from controlplane.controllers.rootca import plan_config_map
from controlplane.controllers.servicecidrs import is_in_use
from machinery.api.catalogue import CONFIGMAPS, DEPLOYMENTS, NODES, PODS
from machinery.api.meta import Object
from machinery.testing.clock import EPOCH

# -- disruption ------------------------------------------------------------------------------------------------------


def budget(**spec: Any) -> Object:
    return {"metadata": metadata("b", generation=3), "spec": spec, "status": {}}


@pytest.mark.parametrize(
    ("spec", "pods", "scale", "expected"),
    [
        ({"minAvailable": 2}, 3, 0, (3, 2)),
        ({"minAvailable": "50%"}, 3, 5, (5, 3)),
        ({"maxUnavailable": 1}, 3, 5, (5, 4)),
        ({"maxUnavailable": "30%"}, 3, 5, (5, 3)),
        ({"maxUnavailable": "100%"}, 3, 5, (5, 0)),
    ],
)
def test_how_many_must_be_healthy(spec: Any, pods: int, scale: int, expected: tuple[int, int]) -> None:
    found = budgets.expected(budget(**spec), pods, scale)
    assert (found.pods, found.healthy) == expected
    assert budgets.needs_scale(budget(**spec)) is (scale > 0)


def test_a_budgets_status() -> None:
    b = budget(minAvailable=1)
    pods = [pod("a"), pod("b"), pod("c", ready=False), pod("d", deletionTimestamp=ago(1))]
    healthy = budgets.count_healthy(pods, {"b": ago(1)})
    assert healthy == 1
    status = budgets.plan_status(b, budgets.Expected(4, 1), 3, {"b": ago(1)}, EPOCH)
    assert status["disruptionsAllowed"] == 2
    assert status["disruptedPods"] == {"b": ago(1)}
    (told,) = status["conditions"]
    assert (told["type"], told["status"], told["reason"], told["observedGeneration"]) == (
        "DisruptionAllowed",
        "True",
        "SufficientPods",
        3,
    )
    none_left = budgets.plan_status({**b, "status": status}, budgets.Expected(4, 4), 3, {}, EPOCH)
    assert none_left["disruptionsAllowed"] == 0
    assert none_left["conditions"][0]["reason"] == "InsufficientPods"
    failed = budgets.failed_status(b, "why", EPOCH)
    assert (failed["disruptionsAllowed"], failed["conditions"][0]["reason"]) == (0, "SyncFailed")


def test_granted_evictions_are_awaited_for_two_minutes() -> None:
    b = budget(minAvailable=1)
    b["status"]["disruptedPods"] = {"a": ago(30), "late": ago(121), "gone": ago(1), "going": ago(1)}
    pods = [pod("a"), pod("late"), pod("going", deletionTimestamp=ago(1))]
    kept, overdue, wait = budgets.still_disrupted(b, pods, EPOCH)
    assert (list(kept), [p["metadata"]["name"] for p in overdue], wait) == (["a"], ["late"], 90.0)


def test_a_disruption_that_never_happened_is_void() -> None:
    p = pod("a")
    assert budgets.stale_disruption(p, EPOCH) is None
    p["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": ago(100)})
    assert budgets.stale_disruption(p, EPOCH) == 20.0


# -- quota -----------------------------------------------------------------------------------------------------------


def test_quotas_count_what_is_there() -> None:
    hard = {"pods": "5", "requests.cpu": "2", "count/configmaps": "3", "count/deployments.apps": "9"}
    quota = {"metadata": metadata("q"), "spec": {"hard": hard}, "status": {"used": {"count/deployments.apps": "7"}}}
    asking = {"containers": [{"name": "c", "resources": {"requests": {"cpu": "250m"}}}]}
    pods = [pod("a", spec=asking), pod("b", spec=asking), pod("done", phase="Succeeded", spec=asking)]
    used = count(quota, [(PODS, pods), (CONFIGMAPS, [{"metadata": metadata("cm")}])])
    status = plan_status(quota, used, {"pods", "requests.cpu", "count/configmaps"})
    assert status["used"]["requests.cpu"] == "500m"
    assert status["used"]["pods"] == "2"  # what has ended is an object, but no pod any more
    assert status["used"]["count/configmaps"] == "1"
    assert status["used"]["count/deployments.apps"] == "7"  # nobody counts it here: what was charged stands
    assert same_amounts(status, {"hard": {**hard, "requests.cpu": "2000m"}, "used": status["used"]})


# -- autoscaling -----------------------------------------------------------------------------------------------------

TOLERANCE, PERIODS = Tolerance(0.1, 0.1), Periods(300, 30)


def busy(name: str, **more: Any) -> Object:
    p = pod(name, spec={"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}, **more)
    p["status"]["startTime"] = ago(1000)
    return p


def measured(**millis: int) -> dict[str, PodMetric]:
    return {name: PodMetric(value, EPOCH, 30) for name, value in millis.items()}


def utilization(current: int, pods: list[Object], metrics: dict[str, PodMetric], target: int = 50) -> int:
    requests = requests_of(pods, "cpu")
    return by_utilization(current, target, pods, metrics, requests, "cpu", TOLERANCE, PERIODS, EPOCH).replicas


def test_utilization() -> None:
    three = [busy(n) for n in "abc"]
    assert utilization(3, three, measured(a=500, b=500, c=500)) == 3
    assert utilization(3, three, measured(a=540, b=540, c=540)) == 3  # within the tolerance
    assert utilization(3, three, measured(a=1000, b=1000, c=1000)) == 6
    assert utilization(3, three, measured(a=100, b=100, c=100)) == 1


def test_pods_without_a_measurement_never_make_the_answer_bolder() -> None:
    three = [busy(n) for n in "abc"]
    assert utilization(3, three, measured(a=1000, b=1000)) == 4  # growing: the third counts as idle
    assert utilization(3, three, measured(a=100, b=100)) == 3  # shrinking: the third counts as full
    starting = busy("c", ready=False)
    starting["status"]["startTime"] = ago(10)
    assert utilization(3, [*three[:2], starting], measured(a=1000, b=1000, c=9000)) == 4
    with pytest.raises(NoReplicas, match="did not receive metrics"):
        utilization(1, [starting], measured(c=5))


def test_missing_requests_are_told() -> None:
    with pytest.raises(NoReplicas, match="missing request for cpu in container c of Pod a"):
        requests_of([pod("a")], "cpu")
    # what the pod as a whole asks for stands for its containers
    whole = {"resources": {"requests": {"cpu": "300m"}}}
    assert requests_of([pod("a", spec=whole)], "cpu") == {"a": 300}


def test_a_measurement_of_nobody_says_nothing() -> None:
    for judge in (
        lambda: by_average(1, 1000, [], measured(a=5), "", TOLERANCE, PERIODS, EPOCH),
        lambda: utilization(1, [], measured(a=5)),
    ):
        with pytest.raises(NoReplicas, match="no pods returned by selector while calculating replica count"):
            judge()


def test_averages_and_values() -> None:
    two = [busy(n) for n in "ab"]
    metrics = measured(a=30000, b=10000)
    assert by_average(2, 10000, two, metrics, "", TOLERANCE, PERIODS, EPOCH).replicas == 4
    assert by_value(2, 2, 10000, 20000, TOLERANCE) == 4
    assert by_value(0, 0, 10000, 20000, TOLERANCE) == 2
    assert by_value_per_pod(2, 10000, 45000, TOLERANCE) == 5
    assert by_value_per_pod(2, 10000, 20500, TOLERANCE) == 2


def hpa(**behavior: Any) -> Object:
    spec: Object = {"minReplicas": 2, "maxReplicas": 20}
    return {"metadata": metadata("h"), "spec": spec | ({"behavior": behavior} if behavior else {})}


@pytest.mark.parametrize(
    ("current", "desired", "expected", "reason"),
    [
        (5, 7, 7, "DesiredWithinRange"),
        (5, 50, 10, "ScaleUpLimit"),
        (1, 9, 4, "ScaleUpLimit"),
        (3, 9, 6, "ScaleUpLimit"),
        (15, 50, 20, "TooManyReplicas"),
        (5, 1, 2, "TooFewReplicas"),
    ],
)
def test_bounds(current: int, desired: int, expected: int, reason: str) -> None:
    verdict = limit(hpa(), current, desired, [], [], 1000.0, 300.0)
    assert (verdict.replicas, verdict.conditions[1][2]) == (expected, reason)


def test_behavior_brings_rates_of_its_own() -> None:
    verdict = limit(hpa(scaleDown={"stabilizationWindowSeconds": 10}), 1, 9, [], [], 1000.0, 300.0)
    assert (verdict.replicas, verdict.conditions[1][2]) == (5, "ScaleUpLimit")
    # but no window holds growth back to what was asked for before, nor on to it
    assert limit(hpa(), 5, 6, [Recommendation(9, 900.0)], [], 1000.0, 300.0).replicas == 9
    slow = hpa(scaleUp={"stabilizationWindowSeconds": 200})
    held = limit(slow, 5, 9, [Recommendation(6, 900.0)], [], 1000.0, 300.0)
    assert (held.replicas, held.conditions[0][2]) == (6, "ScaleUpStabilized")


def test_shrinking_waits_for_the_window() -> None:
    earlier = [Recommendation(8, 800.0), Recommendation(12, 600.0)]
    verdict = limit(hpa(), 10, 3, earlier, [], 1000.0, 300.0)
    assert (verdict.replicas, verdict.conditions[0][2]) == (8, "ScaleDownStabilized")


def test_rates_count_what_was_done_lately() -> None:
    slow = hpa(scaleUp={"policies": [{"type": "Pods", "value": 3, "periodSeconds": 60}]})
    done = [ScaleEvent(2, 990.0), ScaleEvent(5, 900.0)]
    assert limit(slow, 8, 20, [], done, 1000.0, 300.0).replicas == 9
    half = [{"type": "Percent", "value": 50, "periodSeconds": 60}]
    halving = hpa(scaleDown={"policies": half, "stabilizationWindowSeconds": 0})
    assert limit(halving, 16, 2, [], [], 1000.0, 300.0).replicas == 8
    never = hpa(scaleDown={"selectPolicy": "Disabled"})
    assert limit(never, 16, 2, [], [], 1000.0, 0.0).replicas == 16


# -- namespaces ------------------------------------------------------------------------------------------------------


def test_pods_are_deleted_first_and_cluster_resources_never() -> None:
    found = deletable(Discovered((NODES, DEPLOYMENTS, CONFIGMAPS, PODS), {}))
    assert found == [PODS, CONFIGMAPS, DEPLOYMENTS]


def test_a_namespaces_conditions() -> None:
    leftovers = [
        Leftover(PODS, 2, Counter(), 30.0),
        Leftover(DEPLOYMENTS, 1, Counter({"example.com/hold": 1}), 0.0),
        Leftover(CONFIGMAPS, 0, error="no"),
    ]
    told = {c["type"]: c for c in plan_conditions([], {"metrics.k8s.io/v1beta1": "stale"}, leftovers, ago(0))}
    assert told["NamespaceDeletionDiscoveryFailure"]["reason"] == "DiscoveryFailed"
    assert told["NamespaceContentRemaining"]["message"] == (
        "Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances"
    )
    assert told["NamespaceFinalizersRemaining"]["message"] == (
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    )
    assert told["NamespaceDeletionContentFailure"]["status"] == "True"
    fine = {c["type"]: c["status"] for c in plan_conditions(told.values(), {}, [], ago(0))}
    assert set(fine.values()) == {"False"}


def test_the_longest_grace_counts() -> None:
    slow = pod("slow", spec={"terminationGracePeriodSeconds": 30})
    done = pod("done", phase="Succeeded", spec={"terminationGracePeriodSeconds": 300})
    assert grace_of([slow, done, pod("quick")]) == 30.0


# -- roles, CAs, service networks -------------------------------------------------------------------------------------


def role(name: str, *verbs: str, **labels: str) -> Object:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]} for verb in verbs]
    return {"metadata": metadata(name, "", labels=labels), "rules": rules}


def test_roles_add_up() -> None:
    admin = role("admin", "list")
    admin["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]}
    roles = [admin, role("b", "get", "watch", to="admin"), role("a", "get", to="admin"), role("c", "delete")]
    assert [rule["verbs"][0] for rule in aggregated_rules(admin, roles)] == ["get", "watch"]


def test_the_root_ca_is_published_and_mended() -> None:
    made = plan_config_map("ns", None, "PEM")
    assert made is not None
    assert made["data"] == {"ca.crt": "PEM"}
    assert plan_config_map("ns", made, "PEM") is None
    mended = plan_config_map("ns", {**made, "data": {"ca.crt": "forged"}}, "PEM")
    assert mended is not None
    assert mended["data"] == {"ca.crt": "PEM"}


def test_a_service_network_is_in_use_by_its_addresses() -> None:
    cidr = {"metadata": metadata("a", ""), "spec": {"cidrs": ["10.0.0.0/24"]}}
    wider = {"metadata": metadata("b", ""), "spec": {"cidrs": ["10.0.0.0/16"]}}
    address = {"metadata": metadata("10.0.0.5", "")}
    assert is_in_use(cidr, [cidr], [address])
    assert not is_in_use(cidr, [cidr, wider], [address])
    assert not is_in_use(cidr, [cidr], [])
