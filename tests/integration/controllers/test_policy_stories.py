"""Volumes, disruption budgets and autoscalers against a real API server."""

from __future__ import annotations

import pytest
from controllers_cluster import counted, pod_template, story, workload

from machinery.api.catalogue import (
    DEPLOYMENTS,
    HORIZONTALPODAUTOSCALERS,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    SERVICEACCOUNTS,
    SERVICECIDRS,
    VALIDATINGADMISSIONPOLICIES,
)
from machinery.api.meta import condition, controller_of, is_deleting, name_of, uid_of
from machinery.errors import TooManyRequests


async def test_claims_are_bound_protected_and_their_volumes_released() -> None:
    names = "persistentvolume-binder,pvc-protection,pv-protection,ephemeral-volume,serviceaccount,garbagecollector"
    async with story(names) as cluster:
        admin = cluster.admin
        spec = {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"},
            "persistentVolumeReclaimPolicy": "Retain",
        }
        await admin.create(PERSISTENTVOLUMES, {"metadata": {"name": "pv"}, "spec": spec})
        await cluster.object(PERSISTENTVOLUMES, "pv", lambda v: v["status"].get("phase") == "Available", "")
        wants = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "",
        }
        await admin.create(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "c"}, "spec": wants}, "default")
        claim = await cluster.object(PERSISTENTVOLUMECLAIMS, "c", lambda c: c["status"].get("phase") == "Bound")
        assert claim["spec"]["volumeName"] == "pv"
        assert claim["status"]["capacity"] == {"storage": "5Gi"}
        volume = await cluster.object(PERSISTENTVOLUMES, "pv", lambda v: v["status"]["phase"] == "Bound", "")
        assert volume["spec"]["claimRef"]["uid"] == uid_of(claim)
        assert volume["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]

        # Conformance: "should apply changes to a pv/pvc status".
        await cluster.status(PERSISTENTVOLUMES, "pv", {"message": "StatusPatched", "reason": "E2E patchedStatus"})
        told = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "m"}
        await cluster.status(PERSISTENTVOLUMECLAIMS, "c", {"conditions": [told]})

        use = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
        fleeting = {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": wants}}}
        await cluster.object(SERVICEACCOUNTS, "default", bool)
        pod = {"metadata": {"name": "p"}, "spec": {**pod_template()["spec"], "volumes": [use, fleeting]}}
        made = await admin.create(PODS, pod, "default")
        await cluster.object(PODS, "p", lambda p: p["spec"].get("nodeName"))
        own = await cluster.object(PERSISTENTVOLUMECLAIMS, "p-e", bool)
        assert (controller_of(own) or {})["uid"] == uid_of(made)
        await admin.delete(PERSISTENTVOLUMECLAIMS, "c", "default")
        kept = await cluster.object(PERSISTENTVOLUMECLAIMS, "c", is_deleting)
        assert condition(kept["status"]["conditions"], "StatusPatched") is not None
        volume = await admin.get(PERSISTENTVOLUMES, "pv")
        assert volume["status"]["reason"] == "E2E patchedStatus", "the status is not fought over"
        await admin.delete(PODS, "p", "default", grace_seconds=0)
        await cluster.gone(PERSISTENTVOLUMECLAIMS, "c")
        await cluster.gone(PERSISTENTVOLUMECLAIMS, "p-e")
        await cluster.object(PERSISTENTVOLUMES, "pv", lambda v: v["status"]["phase"] == "Released", "")


async def test_a_budget_blocks_evictions_until_it_allows_them() -> None:
    """Conformance: "should block an eviction until the PDB is updated to allow it"."""
    async with story("disruption,replicaset,serviceaccount") as cluster:
        admin = cluster.admin
        await admin.create(REPLICASETS, workload(REPLICASETS, "web", replicas=3))
        spec = {"minAvailable": 3, "selector": {"matchLabels": {"app": "web"}}}
        await admin.create(PODDISRUPTIONBUDGETS, {"metadata": {"name": "b"}, "spec": spec}, "default")
        full = await cluster.object(
            PODDISRUPTIONBUDGETS, "b", lambda b: (b.get("status") or {}).get("currentHealthy") == 3
        )
        assert full["status"]["disruptionsAllowed"] == 0
        assert (full["status"]["desiredHealthy"], full["status"]["expectedPods"]) == (3, 3)
        told = condition(full["status"]["conditions"], "DisruptionAllowed")
        assert told is not None
        assert (told["status"], told["reason"]) == ("False", "InsufficientPods")
        pod = name_of((await admin.list(PODS, "default")).items[0])
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        with pytest.raises(TooManyRequests):
            await admin.create_subresource(PODS, pod, "eviction", eviction, "default")
        await admin.patch(PODDISRUPTIONBUDGETS, "b", {"spec": {"minAvailable": "60%"}}, "default")
        await cluster.object(PODDISRUPTIONBUDGETS, "b", lambda b: b["status"]["disruptionsAllowed"] == 1)
        await admin.create_subresource(PODS, pod, "eviction", eviction, "default")
        await cluster.gone(PODS, pod)
        await cluster.object(
            PODDISRUPTIONBUDGETS,
            "b",
            lambda b: b["status"]["currentHealthy"] == 3 and not b["status"].get("disruptedPods"),
        )


async def test_an_autoscaler_keeps_bounds_and_tells_of_missing_metrics() -> None:
    async with story("horizontalpodautoscaling,deployment,replicaset,serviceaccount") as cluster:
        admin = cluster.admin
        await admin.create(DEPLOYMENTS, workload(DEPLOYMENTS, "web", replicas=1))
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        spec = {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5}
        await admin.create(HORIZONTALPODAUTOSCALERS, {"metadata": {"name": "h"}, "spec": spec}, "default")
        await cluster.object(DEPLOYMENTS, "web", lambda d: d["spec"]["replicas"] == 3)
        event = await cluster.event("SuccessfulRescale")
        assert event["message"] == "New size: 3; reason: Current number of replicas below Spec.MinReplicas"
        looks = "horizontal_pod_autoscaler_controller_reconciliations_total"
        assert counted(looks, action="scale_up", error="none") == 1
        await admin.patch(HORIZONTALPODAUTOSCALERS, "h", {"spec": {"minReplicas": 2}}, "default")
        told = await cluster.object(
            HORIZONTALPODAUTOSCALERS, "h", lambda h: condition(h["status"].get("conditions"), "ScalingActive")
        )
        active = condition(told["status"]["conditions"], "ScalingActive")
        assert active is not None
        assert (active["status"], active["reason"]) == ("False", "FailedGetResourceMetric")
        why = "failed to get cpu utilization: unable to get metrics for resource cpu: "
        assert active["message"].startswith(f"the HPA was unable to compute the replica count: {why}")
        event = await cluster.event("FailedComputeMetricsReplicas")
        assert event["message"].startswith(
            f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {why}"
        )
        assert told["status"]["currentMetrics"] == [{"type": ""}]
        metric = "horizontal_pod_autoscaler_controller_metric_computation_duration_seconds_count"
        assert counted(metric, action="none", error="internal", metric_type="Resource") >= 1
        # A second one for the same pods: neither may act.
        await admin.create(HORIZONTALPODAUTOSCALERS, {"metadata": {"name": "rival"}, "spec": spec}, "default")
        event = await cluster.event("AmbiguousSelector")
        assert (
            event["message"]
            == "pods by selector app=web are controlled by multiple HPAs: [{h default} {rival default}]"
        )


async def test_a_policys_expressions_are_checked_against_the_types_they_are_about() -> None:
    async with story("validatingadmissionpolicy-status-controller", hollow=False) as cluster:
        rule = {
            "apiGroups": ["apps"],
            "apiVersions": ["v1"],
            "operations": ["CREATE"],
            "resources": ["deployments"],
        }
        variables = [{"name": "count", "expression": "object.spec.replicas"}]
        validations = [
            {"expression": "object.spec.replicas > 1"},
            {"expression": "object.spec.foo > 1"},
            {"expression": "variables.count > '1'"},
            {"expression": "object.spec.template.spec.containers.all(c, has(c.resources.limits))"},
        ]
        spec = {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": validations,
            "variables": variables,
        }
        await cluster.admin.create(VALIDATINGADMISSIONPOLICIES, {"metadata": {"name": "p"}, "spec": spec})
        checked = await cluster.object(
            VALIDATINGADMISSIONPOLICIES, "p", lambda p: (p.get("status") or {}).get("observedGeneration") == 1, ""
        )
        first, second = checked["status"]["typeChecking"]["expressionWarnings"]
        assert first == {
            "fieldRef": "spec.validations[1].expression",
            "warning": (
                "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'foo'\n | object.spec.foo > 1\n"
                " | ...........^\n"
            ),
        }
        assert second["fieldRef"] == "spec.validations[2].expression"
        assert "found no matching overload for '_>_' applied to '(int, string)'" in second["warning"]
        fine = {"spec": {"validations": validations[:1]}}
        await cluster.admin.patch(VALIDATINGADMISSIONPOLICIES, "p", fine)
        again = await cluster.object(
            VALIDATINGADMISSIONPOLICIES, "p", lambda p: p["status"]["observedGeneration"] == 2, ""
        )
        assert not again["status"].get("typeChecking")


async def test_a_servicecidr_is_made_ready() -> None:
    async with story("service-cidr-controller", hollow=False) as cluster:
        made = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}}
        await cluster.admin.create(SERVICECIDRS, made)
        ready = await cluster.object(
            SERVICECIDRS, "more", lambda c: condition((c.get("status") or {}).get("conditions"), "Ready"), ""
        )
        assert ready["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
