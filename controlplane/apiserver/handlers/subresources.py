"""Subresources that have handlers of their own; the others are read, updated and patched like their parent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from controlplane.apiserver.handlers import binding, eviction, scale
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from machinery.api import catalogue as c
from machinery.api.resource import ResourceType

Handler = Callable[[Api, Exchange], Awaitable[Answer | web.StreamResponse]]

SUBRESOURCES: dict[tuple[ResourceType | None, str], Handler] = {
    (c.PODS, "binding"): binding.bind,
    (c.PODS, "eviction"): eviction.evict,
    (None, "scale"): scale.scale,
}
"""By (stored resource or None for any, subresource)."""
