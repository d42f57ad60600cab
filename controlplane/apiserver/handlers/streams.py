"""Subresources that are answered by kubelets, pods and services: logs, exec, attach, port-forward, proxy.

Source: pkg/registry/core/pod/rest, pkg/registry/core/pod/strategy.go (LogLocation, streamLocation),
pkg/registry/core/{node,service}/rest.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.dialing import Unreachable
from controlplane.apiserver.endpoints import ready_endpoints
from controlplane.apiserver.handlers import read
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import not_found, peer_failure
from controlplane.apiserver.handlers.hijack import Peer
from controlplane.apiserver.handlers.options import parse_integer
from controlplane.apiserver.handlers.permission import may_create
from controlplane.apiserver.handlers.proxying import (
    authority,
    fetch,
    forward,
    is_upgrade,
    is_websocket,
    messages,
    refusing,
    relay,
    rewriting,
)
from controlplane.apiserver.handlers.rewriting import Rewriting
from controlplane.apiserver.http.request import Answered
from controlplane.apiserver.routing import Query
from controlplane.apiserver.streaming import remotecommand, tunnel
from machinery.api import fielderror
from machinery.api.catalogue import NODES, PODS, SERVICES
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object, parse_time
from machinery.errors import BadRequest, ServiceUnavailable, StatusError

Response = Answer | Answered

_LOG_FLAGS = ("follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend")
_LOG_NUMBERS = ("sinceSeconds", "tailLines", "limitBytes")


async def _connect(api: Api, exchange: Exchange, kind: str, options: Object) -> None:
    """Let admission see the connection."""
    info = exchange.info
    operation = Operation(
        "CONNECT",
        exchange.served.type,
        info.subresource,
        info.namespace,
        info.name,
        exchange.user,
        {"kind": kind, "apiVersion": "v1", **options},
        None,
        warnings=exchange.warnings,
        audit_annotations=exchange.audit_annotations,
    )
    await api.admission.admit(operation)
    await api.admission.validate(operation)


async def _connect_to_stream(api: Api, exchange: Exchange, kind: str, options: Object) -> None:
    """To stream is to create, with whatever method: a WebSocket begins with a GET. Raises Forbidden.

    Source: pkg/registry/core/pod/rest/authz.go (AuthorizePodWebsocketUpgradeCreatePermission, https://issues.k8s.io/133515).
    """
    await _connect(api, exchange, kind, options)
    await may_create(api, exchange.info, exchange.user, PODS)


async def _pod(api: Api, exchange: Exchange) -> Object:
    info = exchange.info
    record = await read.find(api, api.resources.of(PODS), info.namespace, info.name)
    return record.object


async def _kubelet(api: Api, node_name: str) -> Peer:
    record = await read.find(api, api.resources.of(NODES), "", node_name)
    return api.kubelets.peer(record.object)


def container_of(pod: Object, name: str) -> str:
    """The container meant: the one named, or the only one. Raises BadRequest."""
    spec = pod.get("spec") or {}
    pod_name = pod["metadata"]["name"]
    if name:
        kinds = ("containers", "initContainers", "ephemeralContainers")
        if not any(c.get("name") == name for kind in kinds for c in spec.get(kind) or ()):
            raise BadRequest(f"container {name} is not valid for pod {pod_name}")
        return name
    names = [c["name"] for c in spec.get("containers") or ()]
    if len(names) == 1:
        return str(names[0])
    told = f"a container name must be specified for pod {pod_name}, choose one of: [{' '.join(names)}]"
    inits = [c["name"] for c in spec.get("initContainers") or ()]
    if inits:
        told += f" or one of the init containers: [{' '.join(inits)}]"
    ephemerals = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if ephemerals:
        told += f" or one of the ephemeral containers: [{' '.join(ephemerals)}]"
    raise BadRequest(told)


def log_query(query: Query, name: str) -> list[tuple[str, str]]:
    """PodLogOptions as the kubelet takes them. Raises BadRequest, Invalid."""
    asked: list[tuple[str, str]] = [(flag, "true") for flag in _LOG_FLAGS[:3] if query.flag(flag)]
    errors: list[FieldError] = []
    numbers = {key: parse_integer(query.get(key)) for key in _LOG_NUMBERS if query.get(key)}
    for key, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        value = numbers.get(key)
        if value is not None and value < least:
            errors.append(
                fielderror.invalid(key, value, f"must be greater than {'or equal to ' if not least else ''}0")
            )
    since = query.get("sinceTime")
    if since and "sinceSeconds" in numbers:
        told = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        errors.append(fielderror.forbidden("", told))
    if since:
        try:
            parse_time(since)
        except ValueError as exc:
            raise BadRequest(str(exc)) from exc
        asked.append(("sinceTime", since))
    if query.get("stream"):  # PodLogsQuerySplitStreams is off
        errors.append(fielderror.forbidden("stream", "may not be specified"))
    if errors:
        raise fielderror.invalid_object("", "PodLogOptions", name, errors)
    return asked + [(key, str(value)) for key, value in numbers.items()]


async def log(api: Api, exchange: Exchange) -> Response:
    """GET pods/NAME/log, over HTTP or as the messages of a WebSocket."""
    query, info = exchange.query, exchange.info
    asked = log_query(query, info.name)
    pod = await _pod(api, exchange)
    container = container_of(pod, query.get("container"))
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        return Answer(b"", "text/plain")
    peer = await _kubelet(api, node)
    path = f"/containerLogs/{_segments(info.namespace, info.name, container)}"
    receive = refusing(
        lambda status, text: peer_failure("pods/log", info.name, status, text),
        messages if is_websocket(exchange) else relay,
    )
    path = f"{path}?{urlencode(asked)}" if asked else path
    try:
        return await fetch(exchange, peer, path, (), receive)
    except Unreachable as exc:
        raise StatusError.plain(f'Get "https://{authority(peer)}{path}": {exc.why}') from exc


def _segments(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


async def execute(api: Api, exchange: Exchange) -> Response:
    """pods/NAME/exec."""
    query = exchange.query
    commands = query.all("command")
    options = _stream_options(query) | {"command": commands}
    await _connect_to_stream(api, exchange, "PodExecOptions", options)
    pod = await _pod(api, exchange)
    container = container_of(pod, query.get("container"))
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise BadRequest(f"cannot exec into a container in a completed pod; current phase is {phase}")
    return await _stream(api, exchange, pod, "exec", container, [("command", part) for part in commands])


async def attach(api: Api, exchange: Exchange) -> Response:
    """pods/NAME/attach."""
    query = exchange.query
    await _connect_to_stream(api, exchange, "PodAttachOptions", _stream_options(query))
    pod = await _pod(api, exchange)
    return await _stream(api, exchange, pod, "attach", container_of(pod, query.get("container")), [])


def _stream_options(query: Query) -> Object:
    options: dict[str, Any] = {key: True for key in ("stdin", "stdout", "stderr", "tty") if query.flag(key)}
    if query.get("container"):
        options["container"] = query.get("container")
    return options


async def _stream(
    api: Api, exchange: Exchange, pod: Object, verb: str, container: str, more: Sequence[tuple[str, str]]
) -> Response:
    node = (pod.get("spec") or {}).get("nodeName")
    info, query = exchange.info, exchange.query
    if not node:
        raise BadRequest(f"pod {info.name} does not have a host assigned")
    if not is_upgrade(exchange):
        raise BadRequest("Upgrade request required")
    names = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
    asked = [(kubelet, "1") for name, kubelet in names.items() if query.flag(name)]
    path = f"/{verb}/{_segments(info.namespace, info.name, container)}?{urlencode([*asked, *more])}"
    peer = await _kubelet(api, node)
    if is_websocket(exchange) and remotecommand.is_wanted(exchange):
        wanted = remotecommand.Wanted(*(query.flag(name) for name in names))
        return await remotecommand.translate(exchange, peer, path, wanted)
    return await forward(exchange, peer, path)


async def port_forward(api: Api, exchange: Exchange) -> Response:
    """pods/NAME/portforward."""
    info, ports = exchange.info, exchange.query.all("ports")
    await _connect_to_stream(api, exchange, "PodPortForwardOptions", {"ports": [int(p) for p in ports if p.isdigit()]})
    pod = await _pod(api, exchange)
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        raise BadRequest(f"pod {info.name} does not have a host assigned")
    if not is_upgrade(exchange):
        raise BadRequest("Upgrade request required")
    path = f"/portForward/{_segments(info.namespace, info.name)}"
    asked = urlencode([("port", port) for port in ports])
    path = f"{path}?{asked}" if asked else path
    peer = await _kubelet(api, node)
    if is_websocket(exchange) and tunnel.is_wanted(exchange):
        return await tunnel.tunnel(exchange, peer, path)
    return await forward(exchange, peer, path)


def split_name(name: str) -> tuple[str, str, str]:
    """(scheme, name, port) of `[scheme:]name[:port]`. Raises BadRequest."""
    parts = name.split(":")
    if len(parts) == 1 and parts[0]:
        return "", parts[0], ""
    if len(parts) == 2 and parts[0] and parts[1]:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("", "http", "https") and parts[1]:
        return parts[0], parts[1], parts[2]
    raise BadRequest(f"invalid request {fielderror.show(name)}")


async def _proxy(api: Api, exchange: Exchange, peer: Peer, kind: str) -> Response:
    rest = exchange.target.rest
    await _connect(api, exchange, kind, {"path": rest})
    if not rest and exchange.method in ("GET", "HEAD"):
        location = exchange.target.path + "/"
        if exchange.query.text:
            location += f"?{exchange.query.text}"
        return Answer(b"", "text/html; charset=utf-8", 301, {"Location": location})
    path = rest or "/"
    if exchange.query.text:
        path += f"?{exchange.query.text}"
    uri = exchange.target.path[: len(exchange.target.path) - len(rest)] if rest else exchange.target.path
    links = Rewriting(uri, frozenset((f"{peer.host}:{peer.port}", exchange.headers.get("Host", ""))))
    forwarded = [("X-Forwarded-Uri", quote(uri + (rest or "/"), safe="/%"))]
    return await forward(exchange, peer, path, headers=forwarded, receive=rewriting(links))


def _tls_to_pods(scheme: str, api: Api) -> Any:
    return api.kubelets.unverified if scheme == "https" else None


async def proxy_pod(api: Api, exchange: Exchange) -> Response:
    """pods/[SCHEME:]NAME[:PORT]/proxy."""
    scheme, name, port = split_name(exchange.info.name)
    record = await read.find(api, api.resources.of(PODS), exchange.info.namespace, name)
    pod = record.object
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise BadRequest("address not allowed")
    if not port:
        ports = (p for c in (pod.get("spec") or {}).get("containers") or () for p in c.get("ports") or ())
        port = str(next((p["containerPort"] for p in ports), 443 if scheme == "https" else 80))
    if not port.isdigit():
        raise BadRequest(f"invalid port {fielderror.show(port)}")
    return await _proxy(api, exchange, Peer(address, int(port), _tls_to_pods(scheme, api)), "PodProxyOptions")


async def proxy_node(api: Api, exchange: Exchange) -> Response:
    """nodes/[SCHEME:]NAME[:PORT]/proxy."""
    scheme, name, port = split_name(exchange.info.name)
    peer = await _kubelet(api, name)
    if port and port.isdigit() and int(port) != peer.port:
        peer = Peer(peer.host, int(port), _tls_to_pods(scheme, api))
    return await _proxy(api, exchange, peer, "NodeProxyOptions")


async def proxy_service(api: Api, exchange: Exchange) -> Response:
    """services/[SCHEME:]NAME[:PORT]/proxy: to one of its endpoints that is ready."""
    scheme, name, port = split_name(exchange.info.name)
    namespace = exchange.info.namespace
    record = await read.find(api, api.resources.of(SERVICES), namespace, name)
    wanted = _service_port(record.object, name, port)
    found = ready_endpoints(api.reader, namespace, name, wanted)
    if not found:
        raise ServiceUnavailable(f"no endpoints available for service {fielderror.show(exchange.info.name)}")
    address, number = secrets.choice(found)
    peer = Peer(address, number, _tls_to_pods(scheme, api))
    return await _proxy(api, exchange, peer, "ServiceProxyOptions")


def _service_port(service: Object, name: str, port: str) -> str:
    """The name of the service's port that is meant. Raises ServiceUnavailable."""
    ports = (service.get("spec") or {}).get("ports") or []
    if not port and len(ports) == 1:
        return ports[0].get("name") or ""
    for one in ports:
        if port in (one.get("name") or "", str(one.get("port"))):
            return one.get("name") or ""
    if not port:
        raise (
            not_found(SERVICES, name)
            if not ports
            else ServiceUnavailable(f"no endpoints available for service {fielderror.show(name)}")
        )
    raise ServiceUnavailable(f"no service port {fielderror.show(port)} found for service {fielderror.show(name)}")
