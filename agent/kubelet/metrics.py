"""The kubelet's metrics, with upstream's names, labels and buckets; who does a thing counts it.

Source: k8s.io/kubernetes pkg/kubelet/metrics, volumemanager/metrics, certificate/kubelet.go, server/metrics;
pkg/volume/util/metrics.go.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram

_DEFAULT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_STARTUP = (0.5, 1, 2, 3, 4, 5, 6, 8, *_LONG[:3], 45, *_LONG[3:])
_PULL = (1, 5, *_LONG)
_SIZES = (
    (0, "0-10MB"),
    (10 << 20, "10MB-100MB"),
    (100 << 20, "100MB-500MB"),
    (500 << 20, "500MB-1GB"),
    (1 << 30, "1GB-5GB"),
    (5 << 30, "5GB-10GB"),
    (10 << 30, "10GB-20GB"),
    (20 << 30, "20GB-30GB"),
    (30 << 30, "30GB-40GB"),
    (40 << 30, "40GB-60GB"),
    (60 << 30, "60GB-100GB"),
    (100 << 30, "GT100GB"),
)

# Counters whose names don't end in _total, which the library would add: gauges that `exposition` calls counters.
PLAIN_COUNTERS: list[str] = []


def _plain(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
    PLAIN_COUNTERS.append(name)
    return Gauge(name, text, labels)


def _histogram(name: str, text: str, labels: tuple[str, ...] = (), buckets: tuple[float, ...] = _DEFAULT) -> Histogram:
    return Histogram(name, text, labels, buckets=buckets)


# -- pods -------------------------------------------------------------------------------------------------------------

POD_START = _histogram(
    "kubelet_pod_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    buckets=_STARTUP,
)
POD_START_SLI = _histogram(
    "kubelet_pod_start_sli_duration_seconds",
    "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod "
    "creation timestamp to when all its containers are reported as started and observed via watch",
    buckets=_STARTUP,
)
POD_START_TOTAL = _histogram(
    "kubelet_pod_start_total_duration_seconds",
    "Duration in seconds to start a pod since creation, including time to pull images and run init containers, "
    "measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
    buckets=_STARTUP,
)
POD_WORKER = _histogram(
    "kubelet_pod_worker_duration_seconds",
    "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
    ("operation_type",),
)
POD_WORKER_START = _histogram(
    "kubelet_pod_worker_start_duration_seconds", "Duration in seconds from kubelet seeing a pod to starting a worker."
)
POD_STATUS_SYNC = _histogram(
    "kubelet_pod_status_sync_duration_seconds",
    "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the "
    "API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60),
)
CONTAINERS_PER_POD = _histogram(
    "kubelet_containers_per_pod_count", "The number of containers per pod.", buckets=(1, 2, 4, 8, 16)
)
STARTED_PODS = Counter("kubelet_started_pods_total", "Cumulative number of pods started")
STARTED_PODS_ERRORS = Counter("kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods")
STARTED_CONTAINERS = Counter(
    "kubelet_started_containers_total", "Cumulative number of containers started", ["container_type"]
)
STARTED_CONTAINERS_ERRORS = Counter(
    "kubelet_started_containers_errors_total",
    "Cumulative number of errors when starting containers",
    ["container_type", "code"],
)
RUN_SANDBOX = _histogram(
    "kubelet_run_podsandbox_duration_seconds",
    "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
    ("runtime_handler",),
)
RUN_SANDBOX_ERRORS = Counter(
    "kubelet_run_podsandbox_errors_total",
    "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
    ["runtime_handler"],
)
IMAGE_PULL = _histogram(
    "kubelet_image_pull_duration_seconds", "Duration in seconds to pull an image.", ("image_size_in_bytes",), _PULL
)
ORPHANS = Counter(
    "kubelet_orphaned_runtime_pods_total",
    "Number of pods that have been detected in the container runtime without being already known to the pod worker. "
    "This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local "
    "configuration, which is unusual.",
)

# -- the node ---------------------------------------------------------------------------------------------------------

PLEG_RELIST = _histogram("kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.")
PLEG_INTERVAL = _histogram("kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG.")
PLEG_LAST_SEEN = Gauge("kubelet_pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active.")
PLEG_DISCARDED = _plain("kubelet_pleg_discard_events", "The number of discard events in PLEG.")
EVENTED_PLEG = _plain(
    "kubelet_evented_pleg_connection_success_count",
    "The number of times a streaming client was obtained to receive CRI Events.",
)
EVENTED_PLEG_ERRORS = _plain(
    "kubelet_evented_pleg_connection_error_count",
    "The number of errors encountered during the establishment of streaming connection with the CRI runtime.",
)
CGROUP_MANAGER = _histogram(
    "kubelet_cgroup_manager_duration_seconds",
    "Duration in seconds for cgroup manager operations. Broken down by method.",
    ("operation_type",),
)
CGROUP_VERSION = Gauge("kubelet_cgroup_version", "cgroup version on the hosts.")
EVICTIONS = _plain("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", ("eviction_signal",))
PREEMPTIONS = _plain(
    "kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", ("preemption_signal",)
)
CLIENT_TTL = Gauge(
    "kubelet_certificate_manager_client_ttl_seconds",
    "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate "
    "expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.",
)
SERVER_TTL = Gauge(
    "kubelet_certificate_manager_server_ttl_seconds",
    "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until "
    "certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will "
    "be +INF.",
)
CLIENT_ERRORS = _plain(
    "kubelet_certificate_manager_client_expiration_renew_errors", "Counter of certificate renewal errors."
)
SERVER_ERRORS = _plain("kubelet_server_expiration_renew_errors", "Counter of certificate renewal errors.")

# -- resources --------------------------------------------------------------------------------------------------------

DEVICE_REGISTRATIONS = Counter(
    "kubelet_device_plugin_registration_total",
    "Cumulative number of device plugin registrations. Broken down by resource name.",
    ["resource_name"],
)
DEVICE_ALLOCATION = _histogram(
    "kubelet_device_plugin_alloc_duration_seconds",
    "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
    ("resource_name",),
)
TOPOLOGY_REQUESTS = Counter(
    "kubelet_topology_manager_admission_requests_total",
    "The number of admission requests where resources have to be aligned.",
)
TOPOLOGY_ERRORS = Counter(
    "kubelet_topology_manager_admission_errors_total",
    "The number of admission request failures where resources could not be aligned.",
)
TOPOLOGY_MILLISECONDS = _histogram(
    "kubelet_topology_manager_admission_duration_ms",
    "Duration in milliseconds to serve a pod admission request.",
    buckets=tuple(0.05 * 2**exponent for exponent in range(15)),
)
CPU_REQUESTS = Counter(
    "kubelet_cpu_manager_pinning_requests_total",
    "The number of cpu core allocations which required pinning.",
)
CPU_ERRORS = Counter(
    "kubelet_cpu_manager_pinning_errors_total",
    "The number of cpu core allocations which required pinning failed.",
)
MEMORY_REQUESTS = Counter(
    "kubelet_memory_manager_pinning_requests_total",
    "The number of memory pages allocations which required pinning.",
)
MEMORY_ERRORS = Counter(
    "kubelet_memory_manager_pinning_errors_total",
    "The number of memory pages allocations which required pinning that failed.",
)
POD_RESOURCES_REQUESTS = Counter(
    "kubelet_pod_resources_endpoint_requests_total",
    "Cumulative number of requests to the PodResource endpoint. Broken down by server api version.",
    ["server_api_version"],
)

# -- volumes ----------------------------------------------------------------------------------------------------------

STORAGE_OPERATION = _histogram(
    "storage_operation_duration_seconds",
    "Storage operation duration",
    ("volume_plugin", "operation_name", "status", "migrated"),
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600),
)

# -- the server -------------------------------------------------------------------------------------------------------

_HTTP = ("method", "path", "server_type", "long_running")
HTTP_REQUESTS = Counter(
    "kubelet_http_requests_total", "Number of the http requests received since the server started", _HTTP
)
HTTP_SECONDS = _histogram("kubelet_http_requests_duration_seconds", "Duration in seconds to serve http requests", _HTTP)
HTTP_INFLIGHT = Gauge("kubelet_http_inflight_requests", "Number of the inflight http requests", _HTTP)


def size_label(size_bytes: int) -> str:
    """How image_pull_duration_seconds names an image's size."""
    return next(label for floor, label in reversed(_SIZES) if size_bytes >= floor)


@contextlib.contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe how long something took, whatever came of it."""
    began = time.monotonic()
    try:
        yield
    finally:
        histogram.observe(time.monotonic() - began)
