"""From a method and a URL to what is asked for.

Two questions are answered apart, as upstream does: what authorisation is asked (`RequestInfo`, from the shape of the
path alone) and which handler answers (from what is served).

Source: k8s.io/apiserver/pkg/endpoints/request/requestinfo.go, pkg/endpoints/installer.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from controlplane.apiserver.request import RequestInfo
from controlplane.apiserver.resources import Resources, Served
from machinery.api import fields
from machinery.api.resource import Subresource

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_CACHED = 8192


class Query:
    """The parameters of a URL; each may come several times."""

    __slots__ = ("_values", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        values: dict[str, list[str]] = {}
        for part in text.split("&") if text else ():
            if not part or ";" in part:
                continue  # as Go does
            key, _, value = part.partition("=")
            values.setdefault(unquote_plus(key), []).append(unquote_plus(value))
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def get(self, name: str, default: str = "") -> str:
        """The first value."""
        found = self._values.get(name)
        return found[0] if found else default

    def all(self, name: str) -> list[str]:
        """All values."""
        return self._values.get(name, [])

    def flag(self, name: str) -> bool:
        """As a boolean: present and neither `false` nor `0`."""
        found = self._values.get(name)
        return found is not None and found[0].lower() not in ("false", "0")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL with a method asks for."""

    info: RequestInfo
    path: str  # decoded
    query: Query
    served: Served | None = None
    """The resource, if the path is that of one which is served."""
    subresource: Subresource | None = None
    rest: str = ""
    """For proxies: what follows `/proxy/` (with the leading slash), undecoded."""
    watch_path: bool = False
    """The path is of the old form `/api/v1/watch/…`."""
    known: bool = True
    """Whether a resource path names something served."""


class Router:
    """Reads URLs; remembers what it read until the resources change."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._cache: dict[tuple[str, str], Target] = {}
        resources.changed.append(self._cache.clear)

    def target(self, method: str, raw: str) -> Target:
        """What `raw` (path and query as they came) asks for."""
        key = (method, raw)
        found = self._cache.get(key)
        if found is None:
            found = self._read(method, raw)
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            if len(raw) < 512:
                self._cache[key] = found
        return found

    def _read(self, method: str, raw: str) -> Target:
        raw_path, _, text = raw.partition("?")
        raw_path = raw_path.partition("#")[0]
        query = Query(text)
        path = unquote(raw_path)
        parts = path.strip("/").split("/")
        info = request_info(method, path, parts, query)
        if not info.is_resource:
            return Target(info, path, query)
        return self._resource(info, path, raw_path, parts, query)

    def _resource(self, info: RequestInfo, path: str, raw_path: str, parts: list[str], query: Query) -> Target:
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        watch_path = bool(rest) and rest[0] == "watch" and len(rest) > 1
        if watch_path:
            rest = rest[1:]
        served = self._resources.find(info.group, info.version, info.resource)
        unknown = Target(info, path, query, known=False)
        if served is None or path.startswith("//"):
            return unknown
        in_namespace = rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES
        if info.resource == "namespaces":
            in_namespace = False
        after = rest[3:] if in_namespace else rest[1:]
        if served.type.namespaced:
            if not in_namespace and (after or (watch_path and len(after) > 0)):
                return unknown
        elif in_namespace:
            return unknown
        if len(after) <= 1:
            return Target(info, path, query, served, watch_path=watch_path)
        subresource = served.type.subresource(after[1])
        if subresource is None or watch_path:
            return unknown
        if len(after) > 2:
            if subresource.name != "proxy":
                return unknown
            skip = len(parts) - len(after) + 2
            tail = raw_path.lstrip("/").split("/", skip)
            return Target(info, path, query, served, subresource, "/" + (tail[skip] if len(tail) > skip else ""))
        return Target(info, path, query, served, subresource, "/" if raw_path.endswith("/") else "")


def request_info(method: str, path: str, parts: list[str], query: Query) -> RequestInfo:
    """What authorisation is asked about."""
    plain = RequestInfo(verb=method.lower(), path=path)
    if len(parts) < 3 or parts[0] not in ("api", "apis") or path.startswith("//"):
        return plain
    group = ""
    rest = parts[1:]
    if parts[0] == "apis":
        if len(parts) < 4:
            return plain
        group, rest = rest[0], rest[1:]
    version, rest = rest[0], rest[1:]
    if not rest or rest == [""]:
        return plain
    verb = _VERBS.get(method, "")
    if rest[0] in ("watch", "proxy"):
        if len(rest) < 2:
            return plain
        verb, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 and verb != "proxy" else ""
    field_selector = label_selector = ""
    if not name and verb == "get":
        verb, name = ("watch", "") if query.flag("watch") else ("list", "")
        try:
            name = fields.parse(query.get("fieldSelector")).exact("metadata.name") or ""
        except ValueError:
            name = ""
        if name in (".", "..") or "/" in name or "%" in name:
            name = ""
    elif not name and verb == "delete":
        verb = "deletecollection"
    if verb in ("list", "watch", "deletecollection"):
        field_selector, label_selector = query.get("fieldSelector"), query.get("labelSelector")
    return RequestInfo(
        verb=verb,
        path=path,
        is_resource=True,
        group=group,
        version=version,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
        field_selector=field_selector,
        label_selector=label_selector,
    )
