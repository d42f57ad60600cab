"""Questions about a pod's spec that many parts ask.

Source: kubelet's types and util/pod; pod API.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import datetime

from agent.kubelet.container import identity
from machinery.api import meta
from machinery.api.meta import Object

SYSTEM_CRITICAL_PRIORITY = 2_000_000_000
_GRACE_SECONDS = 30  # the API server's default, for pods that never saw it


def init_containers(pod: Object) -> list[Object]:
    """spec.initContainers."""
    return pod["spec"].get("initContainers") or []


def containers(pod: Object) -> list[Object]:
    """spec.containers."""
    return pod["spec"].get("containers") or []


def ephemeral_containers(pod: Object) -> list[Object]:
    """spec.ephemeralContainers."""
    return pod["spec"].get("ephemeralContainers") or []


def all_containers(pod: Object) -> Iterator[Object]:
    """Init, app and ephemeral containers, in this order."""
    yield from init_containers(pod)
    yield from containers(pod)
    yield from ephemeral_containers(pod)


def find_container(pod: Object, name: str) -> Object | None:
    """The container of this name, of whatever kind."""
    return next((c for c in all_containers(pod) if c["name"] == name), None)


def is_sidecar(container: Object) -> bool:
    """Whether an init container keeps running beside the app containers (restartPolicy: Always)."""
    return container.get("restartPolicy") == "Always"


def is_app(pod: Object, container: Object) -> bool:
    """Whether a container is one of spec.containers."""
    return any(c["name"] == container["name"] for c in containers(pod))


def container_type(pod: Object, container: Object) -> str:
    """How metrics call the kind of a container."""
    if is_app(pod, container):
        return "container"
    own = any(c["name"] == container["name"] for c in init_containers(pod))
    return "init_container" if own else "ephemeral_container"


# How volume plugins call themselves where that isn't the field's name.
_PLUGINS = {
    "emptyDir": "empty-dir",
    "hostPath": "host-path",
    "downwardAPI": "downward-api",
    "configMap": "configmap",
    "persistentVolumeClaim": "csi",
    "ephemeral": "csi",
}


def volume_plugin(volume: Object) -> str:
    """The volume plugin of one of spec.volumes."""
    kind = next((name for name in volume if name != "name"), "emptyDir")
    return f"kubernetes.io/{_PLUGINS.get(kind, kind)}"


def ended_before(pod: Object, container: Object) -> Iterator[str]:
    """Names of the init containers that have ended for good when this container starts."""
    for earlier in init_containers(pod):
        if earlier["name"] == container["name"]:
            return
        if not is_sidecar(earlier):
            yield earlier["name"]


def is_over(pod: Object, container: Object, names: Container[str]) -> bool:
    """Whether an init container must have ended long ago: it isn't among these names, and an app container is."""
    return (
        container["name"] not in names
        and not is_app(pod, container)
        and any(app["name"] in names for app in containers(pod))
    )


def has_pod_resources(pod: Object) -> bool:
    """Whether the pod as a whole asks for something (spec.resources)."""
    resources = pod["spec"].get("resources") or {}
    return bool(resources.get("requests") or resources.get("limits"))


def field_path(pod: Object, name: str) -> str:
    """`spec.containers{web}`: how events name a container."""
    for section in ("containers", "initContainers", "ephemeralContainers"):
        if any(c["name"] == name for c in pod["spec"].get(section) or ()):
            return f"spec.{section}{{{name}}}"
    return ""


def restart_policy(pod: Object) -> str:
    """spec.restartPolicy with its default."""
    return str(pod["spec"].get("restartPolicy") or "Always")


def describe(pod: Object) -> str:
    """`name_namespace(uid)`: how upstream's messages name a pod."""
    return f"{meta.name_of(pod)}_{meta.namespace_of(pod)}({meta.uid_of(pod)})"


def is_static(pod: Object) -> bool:
    """Whether the pod comes from a file rather than the API."""
    return meta.annotations_of(pod).get(identity.CONFIG_SOURCE, "api") != "api"


def is_mirror(pod: Object) -> bool:
    """Whether this API object only shows a static pod."""
    return identity.CONFIG_MIRROR in meta.annotations_of(pod)


def is_critical(pod: Object) -> bool:
    """Whether the pod may displace others: static, mirror, or of a system priority."""
    return is_static(pod) or is_mirror(pod) or int(pod["spec"].get("priority") or 0) >= SYSTEM_CRITICAL_PRIORITY


def is_host_network(pod: Object) -> bool:
    """spec.hostNetwork."""
    return bool(pod["spec"].get("hostNetwork"))


def effective_security(pod: Object, container: Object) -> Object:
    """The container's securityContext over what it inherits from the pod's."""
    inherited = ("seLinuxOptions", "runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "appArmorProfile")
    of_pod = pod["spec"].get("securityContext") or {}
    merged = {name: of_pod[name] for name in inherited if of_pod.get(name) is not None}
    own = container.get("securityContext") or {}
    return merged | {name: value for name, value in own.items() if value is not None}


def seconds_left(pod: Object, began: datetime, now: datetime) -> float | None:
    """Until the pod's active deadline; None without one."""
    limit = pod["spec"].get("activeDeadlineSeconds")
    return None if limit is None else float(limit) - (now - began).total_seconds()


def claim_of(pod: Object, volume: Object) -> str:
    """The name of the PersistentVolumeClaim that is a pod's volume; "" for other volumes."""
    if volume.get("ephemeral") is not None:
        return f"{meta.name_of(pod)}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def grace_of(pod: Object) -> float:
    """How long a pod's containers have to end, in seconds."""
    of_deletion = pod["metadata"].get("deletionGracePeriodSeconds")
    if of_deletion is not None:
        return float(of_deletion)
    of_spec = pod["spec"].get("terminationGracePeriodSeconds")
    return float(_GRACE_SECONDS if of_spec is None else of_spec)
