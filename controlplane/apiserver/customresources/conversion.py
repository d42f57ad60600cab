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
from controlplane.apiserver.handlers.metadata import named_values_errors
from machinery.api.fielderror import show
from machinery.api.meta import Object
from machinery.api.patch import goformat
from machinery.api.resource import ResourceType
from machinery.api.structural.custom import CustomSchema
from machinery.errors import InternalError, NavarchError, TransportError

_TIMEOUT_SECONDS: Final = 30.0
_REVIEWS: Final = ("v1", "v1beta1")
_KEPT_METADATA: Final = ("name", "namespace", "uid")
_TOLD: Final = {"uid": "UID"}


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
            raise _failed("no supported conversion review versions")
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
        try:
            return [checked(obj, objects[i], wanted) for i, obj in enumerate(made)]
        except _BadObject as exc:
            raise _failed(f"{about} returned invalid {exc}") from exc

    def _source(self, objects: list[Object]) -> str:
        return f"{objects[0].get('apiVersion')}, Kind={self.kind.kind}"


def _failed(told: str) -> InternalError:
    return InternalError(told)


def _converted(answered: Object, review: Object, uid: str) -> list[Any]:
    """The objects of an answer. Raises TransportError."""
    old = review["apiVersion"].endswith("/v1beta1")  # which checked neither kind nor uid
    if not old and (answered.get("apiVersion") != review["apiVersion"] or answered.get("kind") != "ConversionReview"):
        expected = f"{review['apiVersion']}, Kind=ConversionReview"
        got = f"{answered.get('apiVersion')}, Kind={answered.get('kind')}"
        raise TransportError(f"expected webhook response of {expected}, got {got}")
    response = answered.get("response")
    if not isinstance(response, dict):
        raise TransportError("no response provided")
    if not old and response.get("uid") != uid:
        raise TransportError(f"expected response.uid={show(uid)}, got {show(response.get('uid') or '')}")
    result = response.get("result")
    status = result.get("status") if isinstance(result, dict) else None
    if status != "Success":
        message = (result.get("message") if isinstance(result, dict) else "") or ""
        told = f"response.result.status was '{status or ''}', not 'Success'"
        raise TransportError(message or told)
    made = response.get("convertedObjects")
    return made if isinstance(made, list) else []


class _BadObject(NavarchError):
    """A converted object that can't be one; the message begins with what of it is wrong: object, metadata."""


def checked(obj: Any, before: Object, wanted: ResourceType) -> Object:
    """A converted object with the metadata that a webhook may not change. Raises _BadObject."""
    obj = obj if isinstance(obj, dict) else {}
    for what, expected, received in (
        ("groupVersion", wanted.api_version, obj.get("apiVersion") or ""),
        ("kind", before.get("kind"), obj.get("kind") or ""),
    ):
        if expected != received:
            told = f"object at index 0: invalid {what} (expected {expected}, received {received})"
            raise _BadObject(told)
    metadata, given = before["metadata"], obj.get("metadata")
    for key in _KEPT_METADATA:
        one, other = metadata.get(key) or "", (given.get(key) or "") if isinstance(given, dict) else ""
        if one != other:
            raise _BadObject(f"object: must have the same {_TOLD.get(key, key)}: {one} != {other}")
    if "metadata" not in obj:
        raise _BadObject("metadata: missing metadata in converted object")
    if not isinstance(given, dict):
        raise _BadObject(f"metadata: invalid metadata of type {goformat.type_name(given)} in converted object")
    restored = dict(metadata)
    for key in ("labels", "annotations"):
        restored.pop(key, None)
        if given.get(key) is not None:
            restored[key] = _texts(given[key], metadata.get(key) or {}, key)
    return {**obj, "metadata": restored}


def _texts(given: Any, before: Mapping[str, str], key: str) -> Mapping[str, str]:
    if not isinstance(given, dict):
        raise _BadObject(f"metadata: invalid metadata.{key} of type {goformat.type_name(given)} in converted object")
    for name, value in given.items():
        if not isinstance(value, str):
            told = f"metadata.{key}[{name}] must be a string, but is {goformat.type_name(value)} in converted object"
            raise _BadObject(f"metadata: {told}")
    if given != before and (wrong := named_values_errors(key, given)):
        texts = list(dict.fromkeys(str(error) for error in wrong))
        raise _BadObject(f"metadata: {texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}")
    return given
