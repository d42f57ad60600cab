"""Whether a lab is as it should be: what is to hold again after everything that went wrong was put right."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lab_images import ECHO, IMPATIENT
from seen import COMPONENTS

from machinery.api.meta import Object, condition, name_of

if TYPE_CHECKING:
    from live_lab import LiveLab

REPLICAS = 4


def workload() -> str:
    """A Deployment of web servers and its Service."""
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    server = {"name": "echo", "image": ECHO, "ports": [{"containerPort": 8080}], "readinessProbe": probe}
    spec = {"containers": [server], "tolerations": IMPATIENT, "terminationGracePeriodSeconds": 2}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    labels = {"app": "web"}
    selector = {"matchLabels": labels}
    spec["topologySpreadConstraints"] = [spread | {"labelSelector": selector}]
    deployment = {
        "replicas": REPLICAS,
        "selector": selector,
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }
    items = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": deployment},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def spread(lab: LiveLab, namespace: str) -> None:
    """See to it that web servers run on both workers."""
    pods = lab.get("pods", "-n", namespace, "-l", "app=web")["items"]
    if len({each["spec"]["nodeName"] for each in pods}) < 2:
        lab.kubectl("rollout", "restart", "-n", namespace, "deployment/web")
        lab.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=60s", seconds=70)


def what_is_missing(lab: LiveLab, namespace: str, since: datetime) -> str:
    """The first thing that is not as it should be, "" if there is none; leaders must have renewed after `since`."""
    checks = (_api, _nodes, _system, lambda lab: _leaders(lab, since), lambda lab: _workload(lab, namespace))
    for check in checks:
        try:
            missing = check(lab)
        except AssertionError as exc:  # kubectl could not tell
            missing = str(exc).splitlines()[-1][:200]
        if missing:
            return missing
    return ""


def _api(lab: LiveLab) -> str:
    status = lab.navarch("status", check=False, seconds=30)
    return "" if status.returncode == 0 else "navarch status: not all runs"


def _nodes(lab: LiveLab) -> str:
    nodes = lab.get("nodes")["items"]
    return next((f"node {name_of(each)} is not ready" for each in nodes if not _true(each, "Ready")), "")


def _system(lab: LiveLab) -> str:
    pods = lab.get("pods", "-n", "kube-system")["items"]
    return next((f"pod {name_of(each)} is not ready" for each in pods if not _true(each, "Ready")), "")


def _leaders(lab: LiveLab, since: datetime) -> str:
    for component in COMPONENTS:
        spec = lab.get("lease", component, "-n", "kube-system")["spec"]
        if datetime.fromisoformat(spec["renewTime"]) < max(since, datetime.now(UTC) - timedelta(seconds=10)):
            return f"{component} has no leader since {spec['renewTime']}"
    return ""


def _workload(lab: LiveLab, namespace: str) -> str:
    status = lab.get("deployment", "web", "-n", namespace)["status"]
    if status.get("availableReplicas") != REPLICAS or status.get("replicas") != REPLICAS:
        return f"deployment web: {status}"
    pods = lab.get("pods", "-n", namespace, "-l", "app=web")["items"]
    addresses = {each["status"].get("podIP") for each in pods if _true(each, "Ready")}
    if len(pods) != REPLICAS or len(addresses) != REPLICAS:
        return f"{len(pods)} pods of web, {len(addresses)} of them ready"
    slices = lab.get("endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name=web")["items"]
    told = [(each["addresses"][0], each["conditions"].get("ready")) for part in slices for each in part["endpoints"]]
    return "" if sorted(told) == sorted((each, True) for each in addresses) else f"endpoints of web: {told}"


def _true(obj: Object, kind: str) -> bool:
    told = condition(obj["status"].get("conditions"), kind)
    return told is not None and bool(told["status"] == "True")
