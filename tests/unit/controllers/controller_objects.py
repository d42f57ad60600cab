"""Builders of the objects that these tests speak about."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from machinery.api.meta import Object, format_time
from machinery.testing.clock import EPOCH

_uids = itertools.count(1)


def ago(seconds: float) -> str:
    """A time so many seconds before the fake clock's start."""
    return format_time(EPOCH - timedelta(seconds=seconds))


def metadata(name: str, namespace: str = "default", **more: Any) -> Object:
    made: Object = {
        "name": name,
        "uid": f"uid-{name}-{next(_uids)}",
        "resourceVersion": "1",
        "creationTimestamp": ago(100),
    }
    if namespace:
        made["namespace"] = namespace
    return made | more


def pod(
    name: str,
    *,
    ready: bool = True,
    phase: str = "Running",
    node: str = "n1",
    labels: dict[str, str] | None = None,
    ready_for: float = 50,
    ip: str = "",
    spec: Object | None = None,
    **meta: Any,
) -> Object:
    """A pod with one container."""
    status: Object = {"phase": phase}
    if phase == "Running":
        status["conditions"] = [
            {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": ago(ready_for)}
        ]
    if ip:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    made = {"containers": [{"name": "c", "image": "i"}], **(spec or {})}
    if node:
        made["nodeName"] = node
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, labels=labels or {"app": "web"}, **meta),
        "spec": made,
        "status": status,
    }


def template(image: str = "v1", **labels: str) -> Object:
    """A pod template."""
    return {"metadata": {"labels": {"app": "web", **labels}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(replicas: int = 3, *, image: str = "v1", status: Object | None = None, **spec: Any) -> Object:
    """A Deployment with upstream's defaults."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata("web", generation=1),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": status or {},
    }


def replica_set(
    owner: Object,
    image: str,
    replicas: int,
    *,
    available: int | None = None,
    age: float = 100,
    revision: int = 1,
    desired: int | None = None,
    maximum: int | None = None,
    actual: int | None = None,
) -> Object:
    """A ReplicaSet of a Deployment, with `available` ready pods."""
    name = f"web-{image}"
    up = replicas if available is None else available
    wanted = owner["spec"]["replicas"] if desired is None else desired
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata(
            name,
            creationTimestamp=ago(age),
            generation=1,
            labels={"app": "web", "pod-template-hash": image},
            annotations={
                "deployment.kubernetes.io/revision": str(revision),
                "deployment.kubernetes.io/desired-replicas": str(wanted),
                "deployment.kubernetes.io/max-replicas": str(maximum if maximum is not None else wanted + 1),
            },
            ownerReferences=[
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": "web",
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        ),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": image}},
            "template": template(image, **{"pod-template-hash": image}),
        },
        "status": {
            "replicas": replicas if actual is None else actual,
            "readyReplicas": up,
            "availableReplicas": up,
            "observedGeneration": 1,
        },
    }
