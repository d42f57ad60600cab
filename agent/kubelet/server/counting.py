"""How often the kubelet's server was asked for what.

Source: kubelet's server/metrics and server.go (ServeHTTP, trimURLPath, isLongRunningRequest).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from agent.kubelet.metrics import HTTP_INFLIGHT, HTTP_REQUESTS, HTTP_SECONDS

_LONG_RUNNING = frozenset(("exec", "attach", "portforward", "debug"))
_WHOLE = frozenset(("metrics/cadvisor", "metrics/probes", "metrics/resource", "metrics/slis", "stats/summary"))
_KNOWN = frozenset(
    ("attach", "checkpoint", "configz", "containerLogs", "exec", "healthz", "logs", "metrics", "pods", "portForward")
) | {"run", "runningpods", "stats"}


@contextmanager
def counted(request: web.Request, server: str) -> Iterator[None]:
    """Count a request to one of the kubelet's servers while it is served."""
    path = short_path(request.path)
    running = str(path.lower() in _LONG_RUNNING).lower()
    labels = (request.method, path, server, running)
    began = time.monotonic()
    HTTP_INFLIGHT.labels(*labels).inc()
    try:
        yield
    finally:
        HTTP_INFLIGHT.labels(*labels).dec()
        HTTP_REQUESTS.labels(*labels).inc()
        HTTP_SECONDS.labels(*labels).observe(time.monotonic() - began)


def short_path(path: str) -> str:
    """The part of a path that says what is asked for; `other` for what does not exist."""
    parts = path.strip("/").split("/")
    if "/".join(parts[:2]) in _WHOLE:
        return "/".join(parts[:2])
    return parts[0] if parts[0] in _KNOWN else "other"
