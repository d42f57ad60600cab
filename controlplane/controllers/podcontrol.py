"""Making and deleting pods on an owner's behalf, with the events that users look for.

Source: k8s.io/kubernetes/pkg/controller/controller_utils.go, "RealPodControl".
"""

from __future__ import annotations

from dataclasses import dataclass

from machinery.api.catalogue import PODS
from machinery.api.meta import Object, name_of, namespace_of, uid_of
from machinery.client.rest import Client
from machinery.errors import NavarchError, NotFound, StatusError
from machinery.events import EventRecorder


def namespace_terminates(error: BaseException) -> bool:
    """Whether a create failed because its namespace is being deleted: nothing to report, nothing to retry."""
    causes = (error.details or {}).get("causes") or () if isinstance(error, StatusError) else ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


@dataclass(frozen=True)
class PodControl:
    """The hand of every controller that owns pods."""

    client: Client
    recorder: EventRecorder

    async def create(self, pod: Object, owner: Object) -> Object:
        """Create the pod in the owner's namespace. Raises what the API server answers."""
        try:
            made = await self.client.create(PODS, pod, namespace_of(owner))
        except NavarchError as exc:
            if not namespace_terminates(exc):
                self.recorder.warning(owner, "FailedCreate", f"Error creating: {exc}")
            raise
        self.recorder.normal(owner, "SuccessfulCreate", f"Created pod: {name_of(made)}")
        return made

    async def delete(self, pod: Object, owner: Object) -> None:
        """Delete exactly this pod (by uid). Raises NotFound if it is gone."""
        try:
            await self.client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
        except NotFound:
            raise
        except NavarchError as exc:
            self.recorder.warning(owner, "FailedDelete", f"Error deleting: {exc}")
            raise
        self.recorder.normal(owner, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")
