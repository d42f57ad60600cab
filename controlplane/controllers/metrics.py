"""The controllers' own metrics, under upstream's names.

Source: k8s.io/kubernetes, pkg/controller/*/metrics; https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from machinery.api import resourceclaims
from machinery.api.meta import Object, annotations_of, namespace_of
from machinery.metrics import exponential_buckets

Listing = Callable[[], Iterable[Object]]

_SECONDS = exponential_buckets(0.001, 2, 15)
_EVICTION_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240)
_COUNTS = exponential_buckets(2, 2, 15)

# -- Jobs and CronJobs -------------------------------------------------------------------------------------------------

CRONJOB_SKEW = Histogram(
    "cronjob_controller_job_creation_skew_duration_seconds",
    "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    buckets=exponential_buckets(1, 2, 10),
)
_JOB_SYNC = ["completion_mode", "result", "action"]
JOB_SYNC_SECONDS = Histogram(
    "job_controller_job_sync_duration_seconds", "The time it took to sync a job", _JOB_SYNC, buckets=_SECONDS
)
JOB_SYNCS = Counter("job_controller_job_syncs_total", "The number of job syncs", _JOB_SYNC)
JOBS_FINISHED = Counter(
    "job_controller_jobs_finished_total", "The number of finished jobs", ["completion_mode", "result", "reason"]
)
JOB_PODS_FINISHED = Counter(
    "job_controller_job_pods_finished_total",
    "The number of finished Pods that are fully tracked",
    ["completion_mode", "result"],
)
JOB_PODS_CREATED = Counter(
    "job_controller_job_pods_creation_total",
    "The number of Pods created by the Job controller, with the reason of their creation and whether it succeeded",
    ["reason", "status"],
)
JOBS_ELSEWHERE = Counter(
    "job_controller_jobs_by_external_controller_total",
    "The number of Jobs managed by an external controller",
    ["controller_name"],
)
JOB_DELETION_SECONDS = Histogram(
    "ttl_after_finished_controller_job_deletion_duration_seconds",
    "The time it took to delete the job since it became eligible for deletion",
    buckets=exponential_buckets(0.1, 2, 14),
)

# -- nodes and their pods ----------------------------------------------------------------------------------------------

NODE_EVICTIONS = Counter(
    "node_collector_evictions_total",
    "Number of Node evictions that happened since current instance of NodeController started.",
    ["zone"],
)
ZONE_SIZE = Gauge("node_collector_zone_size", "Gauge measuring number of registered Nodes per zones.", ["zone"])
ZONE_HEALTH = Gauge("node_collector_zone_health", "Gauge measuring percentage of healthy nodes per zone.", ["zone"])
ZONE_UNHEALTHY = Gauge(
    "node_collector_unhealthy_nodes_in_zone", "Gauge measuring number of not Ready Nodes per zones.", ["zone"]
)
NODES_SECONDS = Histogram(
    "node_collector_update_all_nodes_health_duration_seconds",
    "Duration in seconds for NodeController to update the health of all nodes.",
    buckets=exponential_buckets(0.01, 4, 8),
)
_TAINTS = "taint_eviction_controller"
TAINT_DELETIONS = Counter(f"{_TAINTS}_pod_deletions_total", "Total number of Pods deleted by the controller.")
TAINT_DELETION_SECONDS = Histogram(
    f"{_TAINTS}_pod_deletion_duration_seconds",
    "Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion.",
    buckets=_EVICTION_SECONDS,
)
_DEVICES = "device_taint_eviction_controller"
DEVICE_DELETIONS = Counter(f"{_DEVICES}_pod_deletions_total", "Total number of Pods deleted by the controller.")
DEVICE_DELETION_SECONDS = Histogram(
    f"{_DEVICES}_pod_deletion_duration_seconds",
    "Latency, in seconds, between the time when a device taint effect has been activated and its Pod's deletion.",
    buckets=_EVICTION_SECONDS,
)
_COLLECTED = ["namespace", "reason"]
PODS_COLLECTED = Counter(
    "pod_gc_collector_force_delete_pods_total",
    "Number of pods that are being forcefully deleted since the Pod GC Controller started.",
    _COLLECTED,
)
PODS_NOT_COLLECTED = Counter(
    "pod_gc_collector_force_delete_pod_errors_total",
    "Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started.",
    _COLLECTED,
)

# -- autoscaling -------------------------------------------------------------------------------------------------------

_HPA = "horizontal_pod_autoscaler_controller"
HPA_LOOKS = Counter(
    f"{_HPA}_reconciliations_total", "Number of reconciliations of HPA controller.", ["action", "error"]
)
HPA_SECONDS = Histogram(
    f"{_HPA}_reconciliation_duration_seconds",
    "The time(seconds) that the HPA controller takes to reconcile once.",
    ["action", "error"],
    buckets=_SECONDS,
)
_HPA_METRIC = ["action", "error", "metric_type"]
HPA_METRICS = Counter(f"{_HPA}_metric_computation_total", "Number of metric computations.", _HPA_METRIC)
HPA_METRIC_SECONDS = Histogram(
    f"{_HPA}_metric_computation_duration_seconds",
    "The time(seconds) that the HPA controller takes to calculate one metric.",
    _HPA_METRIC,
    buckets=_SECONDS,
)


def action(before: int, after: int) -> str:
    """How an autoscaler's metrics call a change of replicas."""
    return "none" if after == before else "scale_up" if after > before else "scale_down"


# -- endpoints ---------------------------------------------------------------------------------------------------------

_SLICES = "endpoint_slice_controller"
ENDPOINTS_ADDED = Histogram(
    f"{_SLICES}_endpoints_added_per_sync", "Number of endpoints added on each Service sync", buckets=_COUNTS
)
ENDPOINTS_REMOVED = Histogram(
    f"{_SLICES}_endpoints_removed_per_sync", "Number of endpoints removed on each Service sync", buckets=_COUNTS
)
SLICES_CHANGED = Histogram(
    f"{_SLICES}_endpointslices_changed_per_sync",
    "Number of EndpointSlices changed on each Service sync",
    ["topology", "traffic_distribution"],
)

# -- claims, volumes, namespaces ---------------------------------------------------------------------------------------

EPHEMERAL_CREATES = Counter(
    "ephemeral_volume_controller_create_total", "Number of PersistentVolumeClaims creation requests"
)
EPHEMERAL_FAILURES = Counter(
    "ephemeral_volume_controller_create_failures_total", "Number of PersistentVolumeClaims creation request failures"
)
CLAIM_CREATES = Counter(
    "resourceclaim_controller_creates_total",
    "Number of ResourceClaims creation requests, categorized by creation status and admin access",
    ["status", "admin_access"],
)
ROOT_CA_SYNCS = Counter(
    "root_ca_cert_publisher_sync_total",
    "Number of namespace syncs happened in root ca cert publisher.",
    ["code"],
)
ROOT_CA_SECONDS = Histogram(
    "root_ca_cert_publisher_sync_duration_seconds",
    "Number of namespace syncs happened in root ca cert publisher.",
    ["code"],
    buckets=_SECONDS,
)


class Volumes(Collector):
    """How many volumes and claims there are, counted when somebody asks."""

    def __init__(self) -> None:
        self.volumes: Listing = list
        self.claims: Listing = list

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """pv_collector_*."""
        bound, unbound = Tally[str](), Tally[str]()
        for volume in self.volumes():
            into = bound if _is_bound(volume) else unbound
            into[volume["spec"].get("storageClassName") or ""] += 1
        what = "Gauge measuring number of persistent volume currently"
        yield _family("pv_collector_bound_pv_count", f"{what} bound", "storage_class", bound)
        yield _family("pv_collector_unbound_pv_count", f"{what} unbound", "storage_class", unbound)
        bound, unbound = Tally[str](), Tally[str]()
        for claim in self.claims():
            into = bound if _is_bound(claim) else unbound
            into[namespace_of(claim)] += 1
        what = "Gauge measuring number of persistent volume claim currently"
        yield _family("pv_collector_bound_pvc_count", f"{what} bound", "namespace", bound)
        yield _family("pv_collector_unbound_pvc_count", f"{what} unbound", "namespace", unbound)


class ResourceClaims(Collector):
    """How many claims of devices there are, counted when somebody asks."""

    def __init__(self) -> None:
        self.claims: Listing = list

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """resourceclaim_controller_resource_claims."""
        counts = Tally[tuple[str, ...]]()
        for claim in self.claims():
            allocated = "true" if (claim.get("status") or {}).get("allocation") else "false"
            counts[asks_as_admin(claim), allocated, _source(claim)] += 1
        family = GaugeMetricFamily(
            "resourceclaim_controller_resource_claims",
            "Number of ResourceClaims, categorized by allocation status, admin access, and source. Source can be "
            "'resource_claim_template' (created from a template), 'extended_resource' (extended resources), or empty "
            "(manually created by a user).",
            labels=["admin_access", "allocated", "source"],
        )
        for values, count in counts.items():
            family.add_metric(values, count)
        yield family


def asks_as_admin(claim: Object) -> str:
    """ "true" for a claim of devices that others may use as well."""
    asked = resourceclaims.requests_of(claim)
    return str(any((request.get("exactly") or {}).get("adminAccess") for request in asked)).lower()


def _source(claim: Object) -> str:
    if "resource.kubernetes.io/pod-claim-name" in annotations_of(claim):
        return "resource_claim_template"
    return "extended_resource" if resourceclaims.is_special(claim) else ""


def _is_bound(obj: Object) -> bool:
    return (obj.get("status") or {}).get("phase") == "Bound"


def _family(name: str, text: str, label: str, counts: Tally[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


VOLUMES = Volumes()
REGISTRY.register(VOLUMES)
RESOURCE_CLAIMS = ResourceClaims()
REGISTRY.register(RESOURCE_CLAIMS)
