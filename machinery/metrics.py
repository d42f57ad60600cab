"""Prometheus metrics under upstream's names, shared by every component.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each counter and histogram that upstream has not


def exponential_buckets(start: float, factor: float, count: int) -> tuple[float, ...]:
    """`count` upper bounds, each `factor` times the one before."""
    return tuple(round(start * factor**i, 9) for i in range(count))


WORKQUEUE_ADDS = Counter("workqueue_adds_total", "Total number of adds handled by workqueue", ["name"])
WORKQUEUE_DEPTH = Gauge("workqueue_depth", "Current depth of workqueue", ["name"])
WORKQUEUE_RETRIES = Counter("workqueue_retries_total", "Total number of retries handled by workqueue", ["name"])
_QUEUE_BUCKETS = tuple(10.0**exponent for exponent in range(-8, 4))
WORKQUEUE_SECONDS = Histogram(
    "workqueue_work_duration_seconds",
    "How long in seconds processing an item from workqueue takes",
    ["name"],
    buckets=_QUEUE_BUCKETS,
)
WORKQUEUE_WAITED = Histogram(
    "workqueue_queue_duration_seconds",
    "How long in seconds an item stays in workqueue before being requested",
    ["name"],
    buckets=_QUEUE_BUCKETS,
)
WORKQUEUE_UNFINISHED = Gauge(
    "workqueue_unfinished_work_seconds", "How many seconds of work is in progress and not yet observed", ["name"]
)
WORKQUEUE_LONGEST = Gauge(
    "workqueue_longest_running_processor_seconds", "How long in seconds the longest running worker has run", ["name"]
)
REST_REQUESTS = Counter(
    "rest_client_requests_total",
    "Number of HTTP requests, partitioned by status code, method, and host",
    ["code", "method", "host"],
)
LEADER = Gauge("leader_election_master_status", "1 if this replica leads, 0 if it stands by", ["name"])
RUNNING_CONTROLLERS = Gauge(
    "running_managed_controllers",
    "Indicates where instances of a controller are currently running",
    ["name", "manager"],
)
