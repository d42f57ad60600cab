"""Subresources that have handlers of their own; the others are read, updated and patched like their parent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from controlplane.apiserver.handlers import binding, eviction, scale, streams
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.http.request import Answered
from machinery.api import catalogue as c
from machinery.api.resource import ResourceType

Handler = Callable[[Api, Exchange], Awaitable[Answer | Answered]]

SUBRESOURCES: dict[tuple[ResourceType | None, str], Handler] = {
    (c.PODS, "binding"): binding.bind,
    (c.PODS, "eviction"): eviction.evict,
    (c.BINDINGS, ""): binding.bind,
    (c.PODS, "log"): streams.log,
    (c.PODS, "exec"): streams.execute,
    (c.PODS, "attach"): streams.attach,
    (c.PODS, "portforward"): streams.port_forward,
    (c.PODS, "proxy"): streams.proxy_pod,
    (c.NODES, "proxy"): streams.proxy_node,
    (c.SERVICES, "proxy"): streams.proxy_service,
    (None, "scale"): scale.scale,
}
"""By (stored resource or None for any, subresource)."""
