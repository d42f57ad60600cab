"""Serving the OpenAPI documents: made on first use, kept until the resources change.

Source: k8s.io/kube-openapi/pkg/handler{,3}; KEP-2896, "OpenAPI v3".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import Any, Protocol

import orjson

from controlplane.apiserver.handlers.exchange import JSON, Answer, Exchange
from controlplane.apiserver.openapi import gnostic, roots, v2, v3
from controlplane.apiserver.openapi.definitions import Definitions, schema_name
from controlplane.apiserver.resources import Resources
from machinery.api.resource import ResourceType

_FOREVER = "public, immutable"  # a document named by its hash never changes


class Described(Protocol):
    """Another server's part of the API."""

    @property
    def documents(self) -> Mapping[str, dict[str, Any]]:
        """Its OpenAPI documents, by v2 and v3."""
        ...


@dataclass
class OpenAPI:
    """The documents of one server."""

    resources: Resources
    definitions: Callable[[], Definitions]
    """Makes the published schemas; asked anew after each change of the resources."""
    remotes: Mapping[str, Described] = field(default_factory=dict)
    """What other servers serve, by path."""
    _made: dict[str, bytes] = field(default_factory=dict)
    _changed: str = ""

    def __post_init__(self) -> None:
        self.resources.changed.append(self._forget)
        self._forget()

    def _forget(self) -> None:
        self._made.clear()
        self._changed = formatdate(time(), usegmt=True)

    def _kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = make()
        return found

    def answer(self, path: str, exchange: Exchange) -> Answer | None:
        """The document at `/openapi/…`; None if there is none."""
        if path == "/openapi/v2":
            return self._v2(exchange)
        if path == "/openapi/v3":
            return Answer(self._kept("v3", self._index), "text/plain; charset=utf-8")  # as upstream has it
        name = path.removeprefix("/openapi/v3/")
        if name == path:
            return None
        versions = self._versions()
        other = self.remotes.get(f"/{name}")
        if other is not None and "v3" in other.documents:
            data = self._kept(name, lambda: orjson.dumps(other.documents["v3"]))
        elif name in versions:
            data = self._kept(name, lambda: self._document(versions[name]))
        elif (root := self._roots().get(name)) is not None:
            data = self._kept(name, lambda: orjson.dumps(roots.document(name, root, self.definitions())))
        else:
            return Answer(b"", "", 404)
        etag = f'"{_digest(data)}"'
        headers = {"ETag": etag, "Vary": "Accept", "Last-Modified": self._changed}
        if exchange.query.get("hash") == _digest(data):
            headers["Cache-Control"] = _FOREVER
        if exchange.headers.get("If-None-Match") == etag:
            return Answer(b"", JSON, 304, headers)
        return Answer(data, JSON, 200, headers)

    def _versions(self) -> dict[str, list[ResourceType]]:
        """Resources by the document they are in."""
        found: dict[str, list[ResourceType]] = {}
        for served in self.resources.all():
            kind = served.type
            name = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
            found.setdefault(name, []).append(kind)
        return found

    def _roots(self) -> dict[str, roots.Root]:
        """What is no version of a group; that of custom ones has no document."""
        return roots.roots({s.type.group for s in self.resources.all() if s.type.group and not s.custom})

    def _index(self) -> bytes:
        paths: dict[str, Any] = {}
        for name, resources in self._versions().items():
            # Named by what is in it: making all documents only to hash them would take seconds.
            told = repr([(r, r.kind, r.verbs, r.subresources) for r in resources]) + str(self.resources.generation)
            digest = hashlib.sha512(told.encode()).hexdigest().upper()
            paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
        for name, root in self._roots().items():
            digest = hashlib.sha512(repr(root).encode()).hexdigest().upper()
            paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
        for path, other in self.remotes.items():
            if "v3" in other.documents:
                digest = _digest(orjson.dumps(other.documents["v3"]))
                paths[path[1:]] = {"serverRelativeURL": f"/openapi/v3{path}?hash={digest}"}
        return orjson.dumps({"paths": dict(sorted(paths.items()))})

    def _document(self, resources: Sequence[ResourceType]) -> bytes:
        return orjson.dumps(v3.document(resources, self.definitions()))

    def _v2_document(self) -> dict[str, Any]:
        definitions = self.definitions()
        documents = (v3.document(resources, definitions) for resources in self._versions().values())
        made = v2.document(documents, [schema_name(s.type) for s in self.resources.all() if s.custom])
        for path, other in sorted(self.remotes.items()):
            if "v2" in other.documents:
                v2.merge(made, other.documents["v2"], path)
        return made

    def _v2(self, exchange: Exchange) -> Answer:
        accept = exchange.headers.get("Accept", "")
        if gnostic.MEDIA_TYPE in accept or gnostic.OLD_MEDIA_TYPE in accept:
            data = self._kept("v2.pb", lambda: gnostic.encode(self._v2_document()))
            media = gnostic.MEDIA_TYPE
        else:
            data = self._kept("v2", lambda: orjson.dumps(self._v2_document()))
            media = JSON
        etag = f'"{_digest(data)}"'
        headers = {"ETag": etag, "Vary": "Accept", "Last-Modified": self._changed}
        if exchange.headers.get("If-None-Match") == etag:
            return Answer(b"", media, 304, headers)
        return Answer(data, media, 200, headers)


def _digest(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest().upper()
