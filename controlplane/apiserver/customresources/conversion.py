"""Between the version an object is stored in and the one that is asked for: by name alone, or by a webhook.

What is read gets the defaults of the version it is shown in: objects may have been stored before there were any.

Source: k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/{converter,nop_converter,webhook_converter}.go.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers.forms import kept, known
from machinery.api.fielderror import show
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.api.structural.custom import CustomSchema
from machinery.errors import InternalError, TransportError

_TIMEOUT_SECONDS: Final = 30.0
_REVIEWS: Final = ("v1", "v1beta1")
_KEPT_METADATA: Final = ("name", "namespace", "uid")


@dataclass(eq=False)
class CustomConversion:
    """Shows stored objects in one version, and makes what is written in it ready to be stored."""

    kind: ResourceType
    schema: CustomSchema
    stored: ResourceType
    webhook: Mapping[str, Any] | None
    """spec.conversion.webhook; None: versions differ in apiVersion alone."""
    client: WebhookClient

    @property
    def waits(self) -> bool:
        """Whether a webhook may have to be asked."""
        return self.webhook is not None

    def of(self, record: Record) -> Object:
        """The object in this version. `present` must have been awaited if this waits. Raises InternalError."""
        found = known(record, ("object", self))
        if found is None:
            if not self._ready(record.object):
                raise InternalError(f"Internal error occurred: {self.kind.kind} {record.name} has not been converted")
            found = kept(record, ("object", self), lambda: self._finished(record.object))
        made: Object = found
        return made

    async def present(self, records: Sequence[Record]) -> None:
        """Convert all that need it, in one call. Raises InternalError if the webhook fails."""
        if not self.waits:
            return
        missing = [r for r in records if known(r, ("object", self)) is None and not self._ready(r.object)]
        if not missing:
            return
        made = await self._ask([record.object for record in missing], self.kind)
        for record, obj in zip(missing, made, strict=True):
            kept(record, ("object", self), partial(self._finished, obj))

    def missing(self, records: Sequence[Record]) -> bool:
        """Whether `present` has something to do for these."""
        return self.waits and any(known(r, ("object", self)) is None and not self._ready(r.object) for r in records)

    async def to_stored(self, obj: Object) -> Object:
        """What to store for an object of this version. Raises InternalError."""
        if obj.get("apiVersion") == self.stored.api_version:
            return obj
        if not self.waits:
            return {**obj, "apiVersion": self.stored.api_version}
        return (await self._ask([obj], self.stored))[0]

    def _ready(self, obj: Object) -> bool:
        return not self.waits or obj.get("apiVersion") == self.kind.api_version

    def _finished(self, obj: Object) -> Object:
        """The object as this version's schema shows it."""
        decoded = self.schema.decode({**orjson.loads(orjson.dumps(obj)), "apiVersion": self.kind.api_version})
        made: Object = {**decoded.object, "apiVersion": self.kind.api_version, "kind": self.kind.kind}
        self.schema.default(made)
        return made

    # -- the webhook -------------------------------------------------------------------------------------------------

    async def _ask(self, objects: list[Object], wanted: ResourceType) -> list[Object]:
        assert self.webhook is not None
        about = f"conversion webhook for {self._source(objects)}"
        version = next((v for v in self.webhook.get("conversionReviewVersions") or () if v in _REVIEWS), None)
        if version is None:
            raise _failed(f"{about} failed: no known ConversionReview version is accepted")
        uid = str(uuid.uuid4())
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{version}",
            "request": {"uid": uid, "desiredAPIVersion": wanted.api_version, "objects": objects},
            "response": {"uid": "", "convertedObjects": None, "result": {"metadata": {}}},
        }
        try:
            answered = await self.client.call(self.webhook.get("clientConfig") or {}, review, _TIMEOUT_SECONDS)
            made = _converted(answered, review, uid)
        except TransportError as exc:
            raise _failed(f"{about} failed: {exc}") from exc
        if len(made) != len(objects):
            raise _failed(f"{about} returned {len(made)} objects, expected {len(objects)}")
        return [_checked(obj, objects[i], wanted, f"{about} returned invalid", i) for i, obj in enumerate(made)]

    def _source(self, objects: list[Object]) -> str:
        return f"{objects[0].get('apiVersion')}, Kind={self.kind.kind}"


def _failed(told: str) -> InternalError:
    return InternalError(told)


def _converted(answered: Object, review: Object, uid: str) -> list[Any]:
    """The objects of an answer. Raises TransportError."""
    if answered.get("apiVersion") != review["apiVersion"] or answered.get("kind") != "ConversionReview":
        expected = f"{review['apiVersion']}, Kind=ConversionReview"
        got = f"{answered.get('apiVersion')}, Kind={answered.get('kind')}"
        raise TransportError(f"expected webhook response of {expected}, got {got}")
    response = answered.get("response")
    if not isinstance(response, dict):
        raise TransportError("no response provided")
    if response.get("uid") != uid:
        raise TransportError(f"expected response.uid={show(uid)}, got {show(response.get('uid') or '')}")
    result = response.get("result")
    status = result.get("status") if isinstance(result, dict) else None
    if status != "Success":
        message = (result.get("message") if isinstance(result, dict) else "") or ""
        told = f"response.result.status was '{status or ''}', not 'Success'"
        raise TransportError(message or told)
    made = response.get("convertedObjects")
    return made if isinstance(made, list) else []


def _checked(obj: Any, before: Object, wanted: ResourceType, about: str, index: int) -> Object:
    """A converted object with the metadata that a webhook may not change."""
    told = f"{about} converted object at index {index}"
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
        raise _failed(f"{told}: missing metadata in converted object")
    if obj.get("apiVersion") != wanted.api_version:
        received = obj.get("apiVersion")
        raise _failed(f"{told}: invalid apiVersion: expected {wanted.api_version}, got {received}")
    if obj.get("kind") != before.get("kind"):
        raise _failed(f"{told}: invalid kind: expected {before.get('kind')}, got {obj.get('kind')}")
    metadata = before["metadata"]
    for key in _KEPT_METADATA:
        if obj["metadata"].get(key) != metadata.get(key):
            raise _failed(f"{told}: invalid metadata of the converted object: metadata.{key} must not be changed")
    restored = dict(metadata)
    for key in ("labels", "annotations"):
        restored.pop(key, None)
        if obj["metadata"].get(key):
            restored[key] = obj["metadata"][key]
    return {**obj, "metadata": restored}
