"""The scheduler's metrics. Source: k8s.io/kubernetes/pkg/scheduler/metrics."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from machinery.metrics import exponential_buckets

ATTEMPTS = Counter(
    "scheduler_schedule_attempts_total",
    "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while "
    "'error' means an internal scheduler problem.",
    ["result", "profile"],
)
ATTEMPT_SECONDS = Histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
    ["result", "profile"],
    buckets=exponential_buckets(0.001, 2, 15),
)
ALGORITHM_SECONDS = Histogram(
    "scheduler_scheduling_algorithm_duration_seconds",
    "Scheduling algorithm latency in seconds",
    buckets=exponential_buckets(0.001, 2, 15),
)
EXTENSION_POINT_SECONDS = Histogram(
    "scheduler_framework_extension_point_duration_seconds",
    "Latency for running all plugins of a specific extension point.",
    ["extension_point", "status", "profile"],
    buckets=exponential_buckets(0.0001, 2, 12),
)
SLI_SECONDS = Histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve "
    "multiple scheduling attempts.",
    ["attempts"],
    buckets=exponential_buckets(0.01, 2, 20),
)
POD_ATTEMPTS = Histogram(
    "scheduler_pod_scheduling_attempts",
    "Number of attempts to successfully schedule a pod.",
    buckets=exponential_buckets(1, 2, 5),
)
PREEMPTION_ATTEMPTS = Counter(
    "scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now"
)
VICTIMS = Histogram(
    "scheduler_preemption_victims", "Number of selected preemption victims", buckets=exponential_buckets(1, 2, 7)
)
INCOMING = Counter(
    "scheduler_queue_incoming_pods_total",
    "Number of pods added to scheduling queues by event and queue type.",
    ["queue", "event"],
)
PENDING = Gauge("scheduler_pending_pods", "Number of pending pods, by the queue type.", ["queue"])
UNSCHEDULABLE = Gauge(
    "scheduler_unschedulable_pods",
    "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all plugins that "
    "caused it to not schedule and so this metric have meaning only when broken down by plugin.",
    ["plugin", "profile"],
)
CACHE_SIZE = Gauge(
    "scheduler_cache_size", "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.", ["type"]
)
CLAIM_CREATES = Counter(
    "scheduler_resourceclaim_creates_total", "Number of ResourceClaims creation requests within scheduler", ["status"]
)
BINDING_CONDITIONS = Counter(
    "scheduler_dra_bindingconditions_allocations_total",
    "Number of allocations using devices with BindingConditions, counted per driver per scheduling attempt",
    ["profile", "driver", "status"],
)
BINDING_CONDITIONS_SECONDS = Histogram(
    "scheduler_dra_bindingconditions_wait_duration_seconds",
    "Time in seconds spent waiting for BindingConditions to be satisfied during PreBind.",
    ["profile", "driver", "status"],
    buckets=exponential_buckets(0.1, 2, 14),
)
GOROUTINES = Gauge(
    "scheduler_goroutines", "Number of running goroutines split by the work they do such as binding.", ["operation"]
)


def attempts_label(attempts: int) -> str:
    """As pod_scheduling_sli_duration_seconds breaks attempts down."""
    return "15+" if attempts >= 15 else str(attempts)


@cache
def extension_point(point: str, profile: str) -> Histogram:
    """How long all plugins of a point took, where they did what was asked."""
    return EXTENSION_POINT_SECONDS.labels(point, "Success", profile)


def attempted(result: str, profile: str, seconds: float) -> None:
    """An attempt took that long and ended with `scheduled`, `unschedulable`, or an `error`."""
    ATTEMPTS.labels(result, profile).inc()
    ATTEMPT_SECONDS.labels(result, profile).observe(seconds)
