"""NamespaceLifecycle: nothing new in a namespace that is not there or is going; some namespaces can't go.

Source: k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, DELETE, UPDATE, BasePlugin, refuse
from controlplane.apiserver.authz.refusal import forbidden_object
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import LOCALSUBJECTACCESSREVIEWS, NAMESPACES
from machinery.api.fielderror import show
from machinery.clock import Clock
from machinery.errors import NotFound

IMMORTAL = ("default", "kube-system", "kube-public")
_DELETED_SECONDS = 30.0


class NamespaceLifecycle(BasePlugin):
    """Looks at the namespace of every write."""

    name = "NamespaceLifecycle"

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._deleted: dict[str, float] = {}  # namespaces whose deletion came through here → until when to look twice

    def handles(self, operation: Operation) -> bool:
        """Whatever is in a namespace, and the deletion of namespaces."""
        if operation.resource == NAMESPACES:
            return operation.verb == DELETE
        return (
            operation.verb in (CREATE, UPDATE)
            and bool(operation.namespace)
            and operation.resource != LOCALSUBJECTACCESSREVIEWS
        )

    async def admit(self, operation: Operation) -> None:
        """Raises Forbidden, NotFound."""
        if operation.resource == NAMESPACES:
            if operation.name in IMMORTAL:
                raise forbidden_object("", "namespaces", operation.name, "this namespace may not be deleted")
            self._remember(operation.name)
            return
        name = operation.namespace
        namespace = self._reader.get(NAMESPACES, "", name)
        if namespace is None or self._deleted.get(name, 0.0) > self._clock.monotonic():
            namespace = await self._reader.get_latest(NAMESPACES, "", name)
        if namespace is None:
            raise NotFound(f"namespaces {show(name)} not found", details={"name": name, "kind": "namespaces"})
        if operation.verb == CREATE and (namespace.get("status") or {}).get("phase") == "Terminating":
            told = f"unable to create new content in namespace {name} because it is being terminated"
            refusal = refuse(operation, told)
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {name} is being terminated",
                "field": "metadata.namespace",
            }
            refusal.details = {**(refusal.details or {}), "causes": [cause]}
            raise refusal

    def _remember(self, name: str) -> None:
        now = self._clock.monotonic()
        self._deleted = {key: until for key, until in self._deleted.items() if until > now}
        self._deleted[name] = now + _DELETED_SECONDS
