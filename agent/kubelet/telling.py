"""Telling users what happens to their pods: events about a pod, or about one of its containers."""

from __future__ import annotations

from agent.kubelet.container.images import Tell
from agent.kubelet.pods import spec
from machinery.api import meta
from machinery.api.meta import Object
from machinery.events import EventRecorder
from machinery.log import get_logger

log = get_logger(__name__)


class Teller:
    """Records events, and logs them; without an API server only the latter."""

    def __init__(self, recorder: EventRecorder | None, node_name: str = "") -> None:
        self._recorder = recorder
        self._node_name = node_name

    def pod(self, pod: Object, kind: str, reason: str, message: str, *, container: str = "") -> None:
        """An event (kind Normal or Warning) about a pod, or about the container of that name."""
        log.info("event", pod=meta.key_of(pod), container=container, type=kind, reason=reason, told=message)
        if self._recorder is None:
            return
        about = pod if pod.get("kind") else {"apiVersion": "v1", "kind": "Pod", **pod}
        path = spec.field_path(pod, container) if container else ""
        tell = self._recorder.normal if kind == "Normal" else self._recorder.warning
        tell(about, reason, message, field_path=path)

    def node(self, kind: str, reason: str, message: str) -> None:
        """An event about this node."""
        log.info("event", node=self._node_name, type=kind, reason=reason, told=message)
        if self._recorder is not None:
            about: Object = {"apiVersion": "v1", "kind": "Node"}
            # As upstream: a node's events go by its name, for its uid may not be known yet.
            about["metadata"] = {"name": self._node_name, "uid": self._node_name}
            tell = self._recorder.normal if kind == "Normal" else self._recorder.warning
            tell(about, reason, message)

    def of_container(self, pod: Object, container: Object) -> Tell:
        """The same, for what knows of containers alone."""
        return lambda kind, reason, message: self.pod(pod, kind, reason, message, container=container["name"])
