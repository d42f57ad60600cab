"""Objects that keep pods running, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster import Cluster, container, eventually, sleeper
from lab_images import REGISTRY

from machinery.api.catalogue import PODS
from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType

WEB = "web"
"""The name of the container that serves /index.html on port 8080."""
NEVER_THERE = f"{REGISTRY}/never-there:404"
"""An image that is in no registry."""


def template(labels: dict[str, str], *containers: Object, **spec: Any) -> Object:
    """A pod template; its pods end at once when they are told to. By default they sleep."""
    pods = {"terminationGracePeriodSeconds": 0, "containers": list(containers or (sleeper(),))}
    return {"metadata": {"labels": labels}, "spec": pods | spec}


def workload(
    name: str, labels: dict[str, str], *containers: Object, replicas: int | None = None, **spec: Any
) -> Object:
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet: its labels are those of its pods."""
    counted = {} if replicas is None else {"replicas": replicas}
    described = {"selector": {"matchLabels": labels}, "template": template(labels, *containers)}
    return {"metadata": {"name": name, "labels": labels}, "spec": counted | described | spec}


def replication_controller(name: str, labels: dict[str, str], *containers: Object, replicas: int) -> Object:
    spec = {"replicas": replicas, "selector": labels, "template": template(labels, *containers)}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def web() -> Object:
    """A container that is ready while its page is there; `break_page` takes it away and `mend_page` brings it back."""
    script = "mkdir /tmp/www; echo fine >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"
    probe = {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    return container("sh", "-c", script, name=WEB, readinessProbe=probe)


async def break_page(cluster: Cluster, pod: str) -> None:
    await cluster.exec(pod, "mv", "/tmp/www/index.html", "/tmp/", container=WEB)


async def mend_page(cluster: Cluster, pod: str) -> None:
    await cluster.exec(pod, "mv", "/tmp/index.html", "/tmp/www/", container=WEB)


async def pods_of(cluster: Cluster, labels: dict[str, str]) -> list[Object]:
    """Pods with these labels that are not being deleted, by name."""
    chosen = ",".join(f"{key}={value}" for key, value in labels.items())
    found = (await cluster.client.list(PODS, cluster.namespace, label_selector=chosen)).items
    return sorted((pod for pod in found if "deletionTimestamp" not in pod["metadata"]), key=name_of)


def owners(obj: Object) -> Sequence[Object]:
    """References to what controls it."""
    return [each for each in obj["metadata"].get("ownerReferences") or () if each.get("controller")]


def belongs_to(obj: Object, owner: Object) -> bool:
    return any(each["uid"] == owner["metadata"]["uid"] for each in owners(obj))


async def has_ready(cluster: Cluster, resource: ResourceType, name: str, wanted: int, *, seconds: float = 90) -> Object:
    """The object when its status counts that many ready pods, of its current generation."""

    def holds(found: Object) -> bool:
        status, seen = found.get("status", {}), found["metadata"]["generation"]
        return bool(status.get("readyReplicas", 0) == wanted and status.get("observedGeneration", 0) >= seen)

    return await cluster.object_that(resource, name, holds, f"with {wanted} ready", seconds=seconds)


async def pods_that(
    cluster: Cluster, labels: dict[str, str], holds: Any, what: str, *, seconds: float = 60
) -> list[Object]:
    """The pods with these labels when something holds of their list."""

    async def ask() -> list[list[Object]]:
        found = await pods_of(cluster, labels)
        return [found] if holds(found) else []

    found: list[list[Object]] = await eventually(ask, what, seconds)
    return found[0]


async def is_complete(cluster: Cluster, resource: ResourceType, name: str, *, seconds: float = 90) -> Object:
    """The Deployment when all its replicas are new and available, and there are no others."""

    def holds(found: Object) -> bool:
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        counts = [status.get(count, 0) for count in ("replicas", "updatedReplicas", "availableReplicas")]
        return counts == [wanted] * 3 and status.get("observedGeneration", 0) >= found["metadata"]["generation"]

    return await cluster.object_that(resource, name, holds, "complete", seconds=seconds)
