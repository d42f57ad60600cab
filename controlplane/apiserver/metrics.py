"""What one API server counts, under upstream's names.

Counting is cheap on the way of a request (dicts of one event loop); families are made when /metrics is asked for.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/; k8s.io/apiserver/pkg/endpoints/metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controlplane.apiserver.histogram import Histograms
from controlplane.apiserver.request import RequestInfo
from machinery.api.resource import ResourceType

READ_ONLY, MUTATING = "readOnly", "mutating"

_SECONDS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_AUTH_SECONDS = tuple(0.001 * 2**n for n in range(15))
_LABELS = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
_LONG_LABELS = ("verb", "group", "version", "resource", "subresource", "scope", "component")

# the API's verb → the one that metrics tell
_VERBS = {
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION",
    "get": "GET",
    "list": "LIST",
    "watch": "WATCH",
    "proxy": "PROXY",
}
_PATHS = frozenset(
    {"/healthz", "/livez", "/readyz", "/metrics", "/version", "/api", "/apis", "/openapi/v2", "/openapi/v3"}
)
_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options"})


@lru_cache(maxsize=8192)
def labels_of(info: RequestInfo, known: bool, dry_run: bool, apply: bool) -> tuple[str, ...]:
    """The labels of a request; only what is `known` to be served is told by name, so that their number is bounded."""
    if not info.is_resource:
        verb = info.verb.upper() if info.verb in _METHODS else "other"
        return verb, "", "", "", "", info.path if info.path in _PATHS else "", "", "apiserver"
    verb = "APPLY" if apply else _VERBS.get(info.verb, "other")
    scope = "resource" if info.name or info.verb == "create" else "namespace" if info.namespace else "cluster"
    shown = (info.group, info.version, info.resource, info.subresource) if known else ("", "", "", "")
    return verb, "All" if dry_run else "", *shown, scope, "apiserver"


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[tuple[str, ...], int]] = Counter()
        self.seconds = Histograms(_SECONDS)
        self.inflight = {READ_ONLY: 0, MUTATING: 0}
        self.long_running: Counter[tuple[str, ...]] = Counter()
        self.authentications: Counter[str] = Counter()
        """By result: success, failure."""
        self.authentication_seconds = Histograms(_AUTH_SECONDS)
        self.authorizations: Counter[str] = Counter()
        """By result: allowed, denied."""
        self.authorization_seconds = Histograms(_AUTH_SECONDS)
        self.terminations: Counter[tuple[tuple[str, ...], int]] = Counter()
        """Requests ended by the server to protect itself."""
        self._watch_events: dict[ResourceType, list[int]] = {}

    def answered(self, labels: tuple[str, ...], code: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests[labels, code] += 1
        self.seconds.observe(labels, seconds)

    def watch_events(self, resource: ResourceType) -> list[int]:
        """Where to count the events sent to watchers of a resource: the one element of this list."""
        return self._watch_events.setdefault(resource, [0])

    def collect(self) -> Iterator[Metric]:
        """All of it, for prometheus_client."""
        yield self._requests()
        name = "apiserver_request_duration_seconds"
        yield self.seconds.family(name, "Response latency distribution in seconds.", _LABELS)
        yield from self._running()
        yield from self._access()
        events = CounterMetricFamily(
            "apiserver_watch_events",
            "Number of events sent in watch clients",
            labels=("group", "version", "resource"),
        )
        for resource, (count,) in self._watch_events.items():
            events.add_metric((resource.group, resource.version, resource.plural), count)
        yield events

    def _requests(self) -> Metric:
        made = CounterMetricFamily("apiserver_request", "Counter of apiserver requests.", labels=(*_LABELS, "code"))
        for (labels, code), count in self.requests.items():
            made.add_metric((*labels, str(code)), count)
        return made

    def _running(self) -> Iterator[Metric]:
        inflight = GaugeMetricFamily(
            "apiserver_current_inflight_requests",
            "Number of currently used inflight request limit of this apiserver per request kind.",
            labels=("request_kind",),
        )
        for kind, count in self.inflight.items():
            inflight.add_metric((kind,), count)
        yield inflight
        long_running = GaugeMetricFamily(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests.",
            labels=_LONG_LABELS,
        )
        for labels, count in self.long_running.items():
            long_running.add_metric((labels[0], *labels[2:]), count)
        yield long_running
        terminated = CounterMetricFamily(
            "apiserver_request_terminations",
            "Number of requests which apiserver terminated in self-defense.",
            labels=(*_LONG_LABELS, "code"),
        )
        for (labels, code), count in self.terminations.items():
            terminated.add_metric((labels[0], *labels[2:], str(code)), count)
        yield terminated

    def _access(self) -> Iterator[Metric]:
        for name, told, counts in (
            ("authentication_attempts", "Counter of authenticated attempts.", self.authentications),
            ("authorization_attempts", "Counter of authorization attempts broken down by result.", self.authorizations),
        ):
            made = CounterMetricFamily(name, told, labels=("result",))
            for result, count in counts.items():
                made.add_metric((result,), count)
            yield made
        told = "duration in seconds broken out by result."
        yield self.authentication_seconds.family(
            "authentication_duration_seconds", f"Authentication {told}", ("result",)
        )
        yield self.authorization_seconds.family("authorization_duration_seconds", f"Authorization {told}", ("result",))
