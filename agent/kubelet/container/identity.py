"""How a container tells whose it is: the labels and annotations that the kubelet writes on it and reads back.

They are all that is left of a pod's state when the kubelet starts again, and they are upstream's, so that either
kubelet takes over the other's containers.

Source: k8s.io/kubelet/pkg/types (labels), kubelet's kuberuntime/labels.go (annotations).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import orjson

from machinery.api import meta
from machinery.api.meta import Object

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

POD_DELETION_GRACE = "io.kubernetes.pod.deletionGracePeriod"
POD_TERMINATION_GRACE = "io.kubernetes.pod.terminationGracePeriod"
CONTAINER_HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP_HANDLER = "io.kubernetes.container.preStopHandler"
CONTAINER_PORTS = "io.kubernetes.container.ports"

# Where a pod came from and, for a static pod, what its file said. Source: kubelet's types/constants.
CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_SEEN = "kubernetes.io/config.seen"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_MIRROR = "kubernetes.io/config.mirror"

_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193


def fnv32a(data: bytes) -> int:
    """The 32-bit FNV-1a hash."""
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return value


def container_hash(container: Object) -> str:
    """Changes when a running container must be replaced: its name or its image changed.

    The bytes hashed are the ones upstream's deep-hash prints for the JSON of these two fields, so that the value is the
    same one.
    """
    fields = json.dumps(
        {"image": container.get("image", ""), "name": container["name"]}, separators=(",", ":"), ensure_ascii=False
    )
    printed = "([]uint8)[" + " ".join(str(byte) for byte in fields.encode()) + "]"
    return f"{fnv32a(printed.encode()):x}"


def pod_labels(pod: Object) -> dict[str, str]:
    """Labels of a pod's sandbox."""
    return {
        **meta.labels_of(pod),
        POD_NAME: meta.name_of(pod),
        POD_NAMESPACE: meta.namespace_of(pod),
        POD_UID: meta.uid_of(pod),
    }


def container_labels(pod: Object, container: Object) -> dict[str, str]:
    """Labels of one container."""
    return {
        POD_NAME: meta.name_of(pod),
        POD_NAMESPACE: meta.namespace_of(pod),
        POD_UID: meta.uid_of(pod),
        CONTAINER_NAME: container["name"],
    }


def container_annotations(pod: Object, container: Object, restart_count: int) -> dict[str, str]:
    """Annotations of one container: what is needed to stop it well when its pod is no longer known."""
    found = {
        CONTAINER_HASH: container_hash(container),
        RESTART_COUNT: str(restart_count),
        TERMINATION_MESSAGE_PATH: container.get("terminationMessagePath") or "",
        TERMINATION_MESSAGE_POLICY: container.get("terminationMessagePolicy") or "",
    }
    metadata, spec = pod["metadata"], pod["spec"]
    if metadata.get("deletionGracePeriodSeconds") is not None:
        found[POD_DELETION_GRACE] = str(metadata["deletionGracePeriodSeconds"])
    if spec.get("terminationGracePeriodSeconds") is not None:
        found[POD_TERMINATION_GRACE] = str(spec["terminationGracePeriodSeconds"])
    pre_stop = (container.get("lifecycle") or {}).get("preStop")
    if pre_stop:
        found[PRE_STOP_HANDLER] = orjson.dumps(pre_stop).decode()
    if container.get("ports"):
        found[CONTAINER_PORTS] = orjson.dumps(container["ports"]).decode()
    return found


def integer(annotations: Mapping[str, str], key: str, default: int = 0) -> int:
    """A number among annotations; `default` if it is absent or no number."""
    try:
        return int(annotations.get(key, default))
    except ValueError:
        return default
