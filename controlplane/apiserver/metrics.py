"""The API server's own metrics, under upstream's names.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

from controlplane.apiserver.handlers.exchange import Exchange

REQUESTS = Counter(
    "apiserver_request_total",
    "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
    "component, and HTTP response code.",
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code"],
)
SECONDS = Histogram(
    "apiserver_request_duration_seconds",
    "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, "
    "scope and component.",
    ["verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component"],
    buckets=(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60),
)
WATCHES = Gauge(
    "apiserver_longrunning_requests",
    "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope.",
    ["verb", "group", "version", "resource", "subresource", "scope", "component"],
)


@lru_cache(maxsize=4096)
def _children(labels: tuple[str, ...], code: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(*labels, "apiserver", str(code)), SECONDS.labels(*labels, "apiserver")


@lru_cache(maxsize=4096)
def _labels(
    verb: str, group: str, version: str, resource: str, subresource: str, scope: str, dry_run: str
) -> tuple[str, ...]:
    return (verb.upper(), dry_run, group, version, resource, subresource, scope)


def observe(exchange: Exchange, code: int, size: int, seconds: float) -> None:
    """Count a request that was answered."""
    info = exchange.info
    if not info.is_resource:
        labels = _labels(exchange.method, "", "", "", "", "", "")
    else:
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
        resource = info.resource if exchange.target.served is not None else ""
        dry_run = "All" if "dryRun" in exchange.query else ""
        labels = _labels(info.verb, info.group, info.version, resource, info.subresource, scope, dry_run)
    counter, histogram = _children(labels, code)
    counter.inc()
    histogram.observe(seconds)
