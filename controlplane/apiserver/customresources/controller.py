"""Keeps CustomResourceDefinitions' statuses true, and serves what is established.

Every API server serves by its own view of the definitions, at once when it sees a change. Statuses are written by
whichever server comes first; the others find nothing to do.

Source: k8s.io/apiextensions-apiserver/pkg/controller, pkg/apiserver/customresource_discovery_controller.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.customresources import lifecycle
from controlplane.apiserver.customresources.serving import served_of
from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.resources import Resources, Served
from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS
from machinery.api.meta import Object, format_time, is_deleting, name_of, namespace_of
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import Conflict, NotFound
from machinery.log import get_logger

log = get_logger(__name__)

_AGAIN_SECONDS = 0.5


@dataclass
class CustomResources:
    """The custom resources of one API server: `start` once storage has been read, then `run`."""

    resources: Resources
    reader: Reader
    api: Loopback
    clock: Clock

    def __post_init__(self) -> None:
        self._served: dict[str, list[Served]] = {}
        self._client = WebhookClient(self.reader)
        self._controller = Controller("crd", self._reconcile, workers=2)

    async def run(self) -> None:
        """Work until cancelled."""
        self.reader.on_change(CUSTOMRESOURCEDEFINITIONS, self._changed)
        try:
            await self._controller.run()
        finally:
            await self._client.close()

    # -- serving -----------------------------------------------------------------------------------------------------

    def _changed(self, old: Object | None, new: Object | None) -> None:
        definition = new if new is not None else old
        if definition is None:
            return
        name = name_of(definition)
        if new is not None:
            self._controller.enqueue(name)
        group = definition["spec"].get("group")
        for other in self.reader.list(CUSTOMRESOURCEDEFINITIONS):  # names may have become free, or taken
            if other["spec"].get("group") == group and name_of(other) != name:
                self._controller.enqueue(name_of(other))
        established = new is not None and lifecycle.is_established(new)
        if (
            new is not None
            and established
            and old is not None
            and lifecycle.is_established(old)
            and _serving_part(old) == _serving_part(new)
        ):
            return
        self._serve(name, new if established else None)

    def _serve(self, name: str, definition: Object | None) -> None:
        removed = self._served.pop(name, [])
        added: list[Served] = []
        if definition is not None:
            try:
                added = served_of(definition, self._client)
            except (KeyError, ValueError, StopIteration) as exc:
                log.error("cannot serve a custom resource", error=exc, definition=name)
            else:
                self._served[name] = added
        if removed or added:
            self.resources.replace(removed, added)

    # -- statuses ----------------------------------------------------------------------------------------------------

    async def _reconcile(self, name: str) -> float | None:
        definition = self.reader.get(CUSTOMRESOURCEDEFINITIONS, "", name)
        if definition is None:
            return None
        try:
            if is_deleting(definition):
                return await self._finalize(definition)
            await self._write(definition, lifecycle.plan_status(definition, self._others(name), self._now()))
        except (Conflict, NotFound):
            return _AGAIN_SECONDS  # another server was first, or memory is a moment behind
        return None

    def _others(self, name: str) -> list[Object]:
        return [d for d in self.reader.list(CUSTOMRESOURCEDEFINITIONS) if name_of(d) != name]

    async def _write(self, definition: Object, status: Object) -> Object:
        if status == definition.get("status"):
            return definition
        return await self.api.update(CUSTOMRESOURCEDEFINITIONS, {**definition, "status": status}, "status")

    async def _finalize(self, definition: Object) -> float | None:
        """Delete the objects, then let the definition go."""
        finalizers = definition["metadata"].get("finalizers") or []
        if lifecycle.FINALIZER not in finalizers:
            return None
        versions = self._served.get(name_of(definition), [])
        # in the version they are stored in they can be had without anybody's help
        served = next((v for v in versions if v.type == v.stored), versions[0] if versions else None)
        left = list(await self.api.list(served.type)) if served is not None else []
        if left:
            await self._write(definition, lifecycle.deletion_status(definition, left=len(left), now=self._now()))
            for obj in left:
                if served is not None and not is_deleting(obj):
                    await self._delete(served, obj)
            return _AGAIN_SECONDS
        done = await self._write(definition, lifecycle.deletion_status(definition, left=0, now=self._now()))
        kept = [finalizer for finalizer in finalizers if finalizer != lifecycle.FINALIZER]
        await self.api.update(CUSTOMRESOURCEDEFINITIONS, {**done, "metadata": {**done["metadata"], "finalizers": kept}})
        return None

    async def _delete(self, served: Served, obj: Object) -> None:
        try:
            # as upstream, at the storage: no webhook can keep a definition
            await self.api.delete(served.type, name_of(obj), namespace_of(obj), asking=False)
        except NotFound:
            return

    def _now(self) -> str:
        return format_time(self.clock.now())


def _serving_part(definition: Object) -> tuple[object, ...]:
    status = definition.get("status") or {}
    return definition["spec"], status.get("acceptedNames"), status.get("storedVersions"), is_deleting(definition)
