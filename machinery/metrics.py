"""Prometheus metrics under upstream's names, shared by every component.

Source: https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

WORKQUEUE_ADDS = Counter("workqueue_adds_total", "Total number of adds handled by workqueue", ["name"])
WORKQUEUE_DEPTH = Gauge("workqueue_depth", "Current depth of workqueue", ["name"])
WORKQUEUE_RETRIES = Counter("workqueue_retries_total", "Total number of retries handled by workqueue", ["name"])
WORKQUEUE_SECONDS = Histogram(
    "workqueue_work_duration_seconds",
    "How long in seconds processing an item from workqueue takes",
    ["name"],
    buckets=(0.001, 0.01, 0.1, 1, 10),
)
REST_REQUESTS = Counter(
    "rest_client_requests_total",
    "Number of HTTP requests, partitioned by status code, method, and host",
    ["code", "method", "host"],
)
LEADER = Gauge("leader_election_master_status", "1 if this replica leads, 0 if it stands by", ["name"])
