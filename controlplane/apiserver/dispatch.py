"""Which handler answers which request."""

from __future__ import annotations

from controlplane.apiserver.handlers import create, deletion, patching, read, update, virtual, watching
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import details_of, no_such_method, no_such_resource, not_found
from controlplane.apiserver.handlers.paths import NOT_FOUND, Paths
from controlplane.apiserver.handlers.subresources import SUBRESOURCES
from controlplane.apiserver.http.request import Answered
from controlplane.apiserver.resources import Served
from machinery.api.resource import Subresource
from machinery.errors import MethodNotAllowed

Response = Answer | Answered

_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_PROXIED = frozenset({("proxy", "HEAD"), ("proxy", "OPTIONS")})
"""What is passed on although no verb of the resource is named for it."""


async def dispatch(api: Api, paths: Paths, exchange: Exchange) -> Response:
    """Answer a request that is authorised. Raises StatusErrors."""
    target = exchange.target
    if (remote := paths.aggregator.remote(target.path)) is not None:
        return await paths.aggregator.proxy(exchange, remote)
    if not target.info.is_resource:
        return await paths.answer(exchange)
    served = target.served
    if served is None or not target.known:
        if api.resources.is_custom(target.info.group):
            known = api.resources.find(target.info.group, target.info.version, target.info.resource)
            if known is not None and target.info.subresource and target.info.name:
                raise not_found(known.type, target.info.name)
            return NOT_FOUND
        raise no_such_resource()
    if served.deprecation:
        exchange.warnings.append(served.deprecation)
    try:
        if target.subresource is not None:
            return await _subresource(api, exchange, served, target.subresource)
        if exchange.info.name and not _is_collection(exchange):
            return await _object(api, exchange, served)
        return await _collection(api, exchange, served)
    except MethodNotAllowed as exc:
        exchange.warnings.clear()  # nothing of the resource was looked at
        if served.custom and not exc.details:
            return _refused(exchange, served, exc)
        raise


def _refused(exchange: Exchange, served: Served, refusal: MethodNotAllowed) -> Response:
    """What is told of a method that custom resources do not take: they have no routes that know of it before."""
    info, kind = exchange.info, served.type
    if kind.namespaced and not info.namespace and info.verb not in ("list", "watch"):
        return NOT_FOUND
    told = f'{info.verb} is not supported on resources of kind "{kind.group_resource}"'
    raise MethodNotAllowed(told, details=details_of(kind, "")) from refusal


def _is_collection(exchange: Exchange) -> bool:
    """Whether the path is that of a collection (a list may carry a name from its field selector)."""
    return exchange.info.verb in ("list", "watch") and not exchange.target.watch_path


async def _object(api: Api, exchange: Exchange, served: Served) -> Response:
    verb = _VERBS.get(exchange.method, "")
    if exchange.target.watch_path:
        if exchange.method != "GET" or "watch" not in served.type.verbs:
            raise no_such_method()
        return await watching.watch(api, exchange)
    if verb == "create" or verb not in served.type.verbs:
        raise no_such_method()
    if verb == "get":
        reader = virtual.READERS.get(served.type)
        return await (reader.get(api, exchange) if reader else read.get(api, exchange))
    if verb == "update":
        return await update.update(api, exchange)
    if verb == "patch":
        return await patching.patch(api, exchange)
    return await deletion.delete(api, exchange)


async def _collection(api: Api, exchange: Exchange, served: Served) -> Response:
    method, verbs, kind = exchange.method, served.type.verbs, served.type
    everywhere = kind.namespaced and not exchange.info.namespace
    if method == "GET":
        if exchange.target.watch_path or (exchange.query.flag("watch") and "watch" in verbs):
            if "watch" not in verbs:
                raise no_such_method()
            return await watching.watch(api, exchange)
        if "list" in verbs:
            reader = virtual.READERS.get(kind)
            return await (reader.list(api, exchange) if reader else read.list_(api, exchange))
    elif exchange.target.watch_path:
        raise no_such_method()
    elif method == "POST" and "create" in verbs and not everywhere:
        special = SUBRESOURCES.get((kind, ""))
        if special is not None:
            return await special(api, exchange)
        if (kind, "") in api.extensions.virtual:
            return await virtual.create(api, exchange)
        return await create.create(api, exchange)
    elif method == "DELETE" and "deletecollection" in verbs and not everywhere:
        return await deletion.delete_collection(api, exchange)
    raise no_such_method()


async def _subresource(api: Api, exchange: Exchange, served: Served, subresource: Subresource) -> Response:
    verb = _VERBS.get(exchange.method, "")
    if verb not in subresource.verbs and (subresource.name, exchange.method) not in _PROXIED:
        raise no_such_method()
    special = SUBRESOURCES.get((served.stored, subresource.name)) or SUBRESOURCES.get((None, subresource.name))
    if special is not None:
        return await special(api, exchange)
    if (served.type, subresource.name) in api.extensions.virtual:
        return await virtual.create(api, exchange)
    if verb == "get":
        return await read.get(api, exchange)
    if verb == "update":
        return await update.update(api, exchange)
    if verb == "patch":
        return await patching.patch(api, exchange)
    raise no_such_method()
