"""Server-side apply: an apply patch as the new state of an object and its managers.

Source: KEP-555, "Server-side apply"; k8s.io/apiserver/pkg/endpoints/handlers/patch.go (applyPatcher).
"""

from __future__ import annotations

import orjson

from controlplane.apiserver.handlers import metadata, yamlbody
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.handlers.options import WriteOptions
from controlplane.apiserver.handlers.writer import check_name
from controlplane.apiserver.resources import Served
from machinery.api.meta import Object
from machinery.api.patch import apply
from machinery.api.schema_decode import go_value
from machinery.errors import BadRequest, UnsupportedMediaType

_MAP = "map[string]interface {}"


class Application:
    """Makes the new state of an object by applying what a manager wants of it."""

    def __init__(self, exchange: Exchange, served: Served, body: bytes, options: WriteOptions, now: str) -> None:
        if served.schema is None:
            raise UnsupportedMediaType("415: Unsupported Media Type", details={})
        self._exchange = exchange
        self._served = served
        self._options = options
        self._now = now
        self._managers: list[Object] = []
        try:
            applied, self._complaint = yamlbody.loads(body)
        except yamlbody.YamlError as exc:
            raise BadRequest(f"error decoding YAML: error converting YAML to JSON: {exc}") from exc
        if applied is None:
            applied = {}
        if not isinstance(applied, dict):
            told = f"json: cannot unmarshal {go_value(applied).partition(' ')[0]} into Go value of type {_MAP}"
            raise BadRequest(f"error decoding YAML: error unmarshaling JSON: while decoding JSON: {told}")
        self._applied: Object = applied

    async def produce(self, old: Object | None) -> Object:
        """The object with the patch applied, in the served version."""
        served, info = self._served, self._exchange.info
        assert served.schema is not None
        live = orjson.loads(orjson.dumps(old)) if old is not None else None
        applied = orjson.loads(orjson.dumps(self._applied))
        merged = apply.apply(
            live,
            applied,
            self._options.manager,
            served.schema,
            force=self._options.force,
            subresource=info.subresource,
            api_version=served.type.api_version,
            now=self._now,
        )
        self._tell()
        self._managers = merged["metadata"].pop("managedFields", [])
        merged["apiVersion"], merged["kind"] = served.type.api_version, served.type.kind
        served.strategy.default(merged)
        check_name(merged, info)
        metadata.match_namespace(merged["metadata"], info.namespace, namespaced=served.type.namespaced)
        return merged

    def _tell(self) -> None:
        """Complain of keys that come twice, as loudly as the request asks."""
        if not self._complaint or self._options.validation not in ("Strict", "Warn"):
            return
        told = f"error converting YAML to JSON: {self._complaint}"
        if self._options.validation == "Strict":
            raise BadRequest(f"error strict decoding YAML: {told}")
        self._exchange.warnings.extend(yamlbody.warnings_of(told))

    def managers(self, old: Object | None, new: Object, now: str) -> list[Object]:
        """The managedFields of the state just produced."""
        return self._managers
