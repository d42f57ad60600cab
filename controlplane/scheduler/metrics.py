"""The scheduler's metrics. Source: k8s.io/kubernetes/pkg/scheduler/metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ATTEMPTS = Counter(
    "scheduler_schedule_attempts_total", "Number of attempts to schedule pods, by the result", ["result", "profile"]
)
ALGORITHM_SECONDS = Histogram(
    "scheduler_scheduling_algorithm_duration_seconds",
    "Scheduling algorithm latency in seconds",
    buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5),
)
SLI_SECONDS = Histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60),
)
VICTIMS = Counter("scheduler_preemption_victims_total", "Pods evicted to make room")
PENDING = Gauge("scheduler_pending_pods", "Number of pending pods, by the queue type", ["queue"])
