"""What a KubeletConfiguration says: every field that has an effect here, with upstream's default.

A field is named by its path in the file; some can also be set by a flag, which then wins over the file, as upstream.
Fields that change nothing here are accepted (HARMLESS), fields of features that are missing are refused by name unless
they have their default value, and fields that upstream doesn't know are refused.

Source: kubelet.config.k8s.io/v1beta1 KubeletConfiguration (1.36) and its defaults.
"""

# ruff: noqa: RUF009 - _field only wraps dataclasses.field
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from machinery import settings
from machinery.api import quantity
from machinery.api.meta import Object
from machinery.errors import SettingsError

Parse = Callable[[Any], Any]


def _seconds(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError('a duration such as "10s" is needed')
    return settings.duration(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return settings.boolean(value)
    raise ValueError("true or false is needed")


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number is needed")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number is needed")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is needed")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(settings.strings(value))
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError("a list of strings is needed")
    return tuple(value)


def _map(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return settings.mapping(value)
    if not isinstance(value, dict):
        raise ValueError("a map of strings is needed")
    return {str(key): str(part) for key, part in value.items()}


def _thresholds(value: Any) -> dict[str, str]:
    if isinstance(value, str):  # --eviction-hard=memory.available<100Mi,…
        return dict(part.split("<", 1) for part in settings.strings(value))
    return _map(value)


def _bytes(value: Any) -> int:
    return quantity.parse(_text(value)).value()


def _objects(value: Any) -> tuple[Object, ...]:
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise ValueError("a list of objects is needed")
    return tuple(value)


def _taints(value: Any) -> tuple[Object, ...]:
    if not isinstance(value, str):
        return _objects(value)
    taints = []
    for part in settings.strings(value):
        keyed, colon, effect = part.rpartition(":")
        key, _, own = keyed.partition("=")
        if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise ValueError(f"{part!r} is not key=value:effect")
        taints.append({"key": key, "effect": effect} | ({"value": own} if own else {}))
    return tuple(taints)


def _one_of(*choices: str) -> Parse:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return str(value)

    return parse


def _field(path: str, parse: Parse, default: Any, flag: str = "") -> Any:
    metadata = {"path": path, "parse": parse, "flag": flag}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


DEFAULT_EVICTION_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}


@dataclass(frozen=True)
class Settings:
    """The kubelet's configuration. Durations are seconds, sizes bytes."""

    # Where pods come from
    static_pod_path: str = _field("staticPodPath", _text, "", "pod-manifest-path")
    file_check_seconds: float = _field("fileCheckFrequency", _seconds, 20.0, "file-check-frequency")
    sync_seconds: float = _field("syncFrequency", _seconds, 60.0, "sync-frequency")
    max_pods: int = _field("maxPods", _integer, 110, "max-pods")
    pods_per_core: int = _field("podsPerCore", _integer, 0, "pods-per-core")
    # Its server
    enable_server: bool = _field("enableServer", _boolean, True, "enable-server")
    address: str = _field("address", _text, "0.0.0.0", "address")
    port: int = _field("port", _integer, 10250, "port")
    tls_cert_file: str = _field("tlsCertFile", _text, "", "tls-cert-file")
    tls_key_file: str = _field("tlsPrivateKeyFile", _text, "", "tls-private-key-file")
    tls_min_version: str = _field("tlsMinVersion", _one_of("", "VersionTLS12", "VersionTLS13"), "", "tls-min-version")
    client_ca_file: str = _field("authentication.x509.clientCAFile", _text, "", "client-ca-file")
    anonymous_auth: bool = _field("authentication.anonymous.enabled", _boolean, False, "anonymous-auth")
    token_webhook: bool = _field("authentication.webhook.enabled", _boolean, True, "authentication-token-webhook")
    token_cache_seconds: float = _field(
        "authentication.webhook.cacheTTL", _seconds, 120.0, "authentication-token-webhook-cache-ttl"
    )
    authorization_mode: str = _field(
        "authorization.mode", _one_of("Webhook", "AlwaysAllow"), "Webhook", "authorization-mode"
    )
    allowed_cache_seconds: float = _field(
        "authorization.webhook.cacheAuthorizedTTL", _seconds, 300.0, "authorization-webhook-cache-authorized-ttl"
    )
    denied_cache_seconds: float = _field(
        "authorization.webhook.cacheUnauthorizedTTL", _seconds, 30.0, "authorization-webhook-cache-unauthorized-ttl"
    )
    debugging_handlers: bool = _field("enableDebuggingHandlers", _boolean, True, "enable-debugging-handlers")
    system_log_handler: bool = _field("enableSystemLogHandler", _boolean, True)
    streaming_idle_seconds: float = _field(
        "streamingConnectionIdleTimeout", _seconds, 14400.0, "streaming-connection-idle-timeout"
    )
    healthz_port: int = _field("healthzPort", _integer, 10248, "healthz-port")
    healthz_address: str = _field("healthzBindAddress", _text, "127.0.0.1", "healthz-bind-address")
    # Certificates
    rotate_certificates: bool = _field("rotateCertificates", _boolean, False, "rotate-certificates")
    server_tls_bootstrap: bool = _field("serverTLSBootstrap", _boolean, False)
    # The node
    register_node: bool = _field("registerNode", _boolean, True, "register-node")
    register_taints: tuple[Object, ...] = _field("registerWithTaints", _taints, (), "register-with-taints")
    status_update_seconds: float = _field("nodeStatusUpdateFrequency", _seconds, 10.0, "node-status-update-frequency")
    status_report_seconds: float = _field("nodeStatusReportFrequency", _seconds, 300.0)
    lease_seconds: int = _field("nodeLeaseDurationSeconds", _integer, 40)
    max_images_shown: int = _field("nodeStatusMaxImages", _integer, 50, "node-status-max-images")
    provider_id: str = _field("providerID", _text, "", "provider-id")
    pod_cidr: str = _field("podCIDR", _text, "", "pod-cidr")
    system_reserved: dict[str, str] = _field("systemReserved", _map, {}, "system-reserved")
    kube_reserved: dict[str, str] = _field("kubeReserved", _map, {}, "kube-reserved")
    enforce_allocatable: tuple[str, ...] = _field(
        "enforceNodeAllocatable", _texts, ("pods",), "enforce-node-allocatable"
    )
    fail_swap_on: bool = _field("failSwapOn", _boolean, True, "fail-swap-on")
    protect_kernel_defaults: bool = _field("protectKernelDefaults", _boolean, False, "protect-kernel-defaults")
    local_storage_isolation: bool = _field(
        "localStorageCapacityIsolation", _boolean, True, "local-storage-capacity-isolation"
    )
    # The runtime
    runtime_endpoint: str = _field(
        "containerRuntimeEndpoint", _text, "unix:///run/containerd/containerd.sock", "container-runtime-endpoint"
    )
    image_endpoint: str = _field("imageServiceEndpoint", _text, "", "image-service-endpoint")
    runtime_timeout_seconds: float = _field("runtimeRequestTimeout", _seconds, 120.0, "runtime-request-timeout")
    pod_logs_dir: str = _field("podLogsDir", _text, "/var/log/pods")
    log_max_bytes: int = _field("containerLogMaxSize", _bytes, 10 * 1024 * 1024, "container-log-max-size")
    log_max_files: int = _field("containerLogMaxFiles", _integer, 5, "container-log-max-files")
    log_monitor_seconds: float = _field("containerLogMonitorInterval", _seconds, 10.0)
    crash_loop_max_seconds: float = _field("crashLoopBackOff.maxContainerRestartPeriod", _seconds, 300.0)
    # Images
    serialize_pulls: bool = _field("serializeImagePulls", _boolean, True, "serialize-image-pulls")
    max_parallel_pulls: int = _field("maxParallelImagePulls", _integer, 0)
    pull_qps: int = _field("registryPullQPS", _integer, 5, "registry-qps")
    pull_burst: int = _field("registryBurst", _integer, 10, "registry-burst")
    image_min_age_seconds: float = _field("imageMinimumGCAge", _seconds, 120.0, "minimum-image-ttl-duration")
    image_max_age_seconds: float = _field("imageMaximumGCAge", _seconds, 0.0)
    image_gc_high_percent: int = _field("imageGCHighThresholdPercent", _integer, 85, "image-gc-high-threshold")
    image_gc_low_percent: int = _field("imageGCLowThresholdPercent", _integer, 80, "image-gc-low-threshold")
    # What pods get
    cluster_domain: str = _field("clusterDomain", _text, "", "cluster-domain")
    cluster_dns: tuple[str, ...] = _field("clusterDNS", _texts, (), "cluster-dns")
    resolv_conf: str = _field("resolvConf", _text, "/etc/resolv.conf", "resolv-conf")
    seccomp_default: bool = _field("seccompDefault", _boolean, False, "seccomp-default")
    cpu_cfs_quota: bool = _field("cpuCFSQuota", _boolean, True, "cpu-cfs-quota")
    cpu_cfs_period_seconds: float = _field("cpuCFSQuotaPeriod", _seconds, 0.1, "cpu-cfs-quota-period")
    pod_pids_limit: int = _field("podPidsLimit", _integer, -1, "pod-max-pids")
    allowed_unsafe_sysctls: tuple[str, ...] = _field("allowedUnsafeSysctls", _texts, (), "allowed-unsafe-sysctls")
    cpu_manager_policy: str = _field("cpuManagerPolicy", _one_of("", "none", "static"), "none", "cpu-manager-policy")
    reserved_cpus: str = _field("reservedSystemCPUs", _text, "", "reserved-cpus")
    single_process_oom_kill: bool = _field("singleProcessOOMKill", _boolean, False)
    # Control groups
    cgroup_root: str = _field("cgroupRoot", _text, "", "cgroup-root")
    cgroups_per_qos: bool = _field("cgroupsPerQOS", _boolean, True, "cgroups-per-qos")
    cgroup_driver: str = _field("cgroupDriver", _one_of("cgroupfs", "systemd"), "cgroupfs", "cgroup-driver")
    fail_cgroup_v1: bool = _field("failCgroupV1", _boolean, False)
    # Eviction
    eviction_hard: dict[str, str] = _field("evictionHard", _thresholds, DEFAULT_EVICTION_HARD, "eviction-hard")
    eviction_soft: dict[str, str] = _field("evictionSoft", _thresholds, {}, "eviction-soft")
    eviction_soft_grace: dict[str, str] = _field("evictionSoftGracePeriod", _map, {}, "eviction-soft-grace-period")
    eviction_transition_seconds: float = _field(
        "evictionPressureTransitionPeriod", _seconds, 300.0, "eviction-pressure-transition-period"
    )
    eviction_max_grace_seconds: int = _field("evictionMaxPodGracePeriod", _integer, 0, "eviction-max-pod-grace-period")
    eviction_minimum_reclaim: dict[str, str] = _field("evictionMinimumReclaim", _map, {}, "eviction-minimum-reclaim")
    merge_eviction_defaults: bool = _field("mergeDefaultEvictionSettings", _boolean, False)
    oom_score_adj: int = _field("oomScoreAdj", _integer, -999, "oom-score-adj")
    shutdown_seconds: float = _field("shutdownGracePeriod", _seconds, 0.0)
    shutdown_critical_seconds: float = _field("shutdownGracePeriodCriticalPods", _seconds, 0.0)
    shutdown_by_priority: tuple[Object, ...] = _field("shutdownGracePeriodByPodPriority", _objects, ())
    feature_gates: dict[str, str] = _field("featureGates", _map, {}, "feature-gates")

    @property
    def parallel_pulls(self) -> int:
        """How many images are pulled at a time; 0 for any number."""
        return 1 if self.serialize_pulls else self.max_parallel_pulls


FIELDS = {field.metadata["path"]: field for field in dataclasses.fields(Settings)}
FLAGS = {field.metadata["flag"]: field for field in dataclasses.fields(Settings) if field.metadata["flag"]}

# Fields that ask for nothing this kubelet would do differently.
HARMLESS = frozenset(
    (
        "apiVersion",
        "kind",
        "httpCheckFrequency",
        "tlsCipherSuites",
        "tlsCurvePreferences",
        "eventRecordQPS",
        "eventBurst",
        "enableContentionProfiling",
        "volumeStatsAggPeriod",
        "kubeletCgroups",
        "cpuManagerReconcilePeriod",
        "hairpinMode",
        "maxOpenFiles",
        "contentType",
        "kubeAPIQPS",
        "kubeAPIBurst",
        "enableControllerAttachDetach",
        "makeIPTablesUtilChains",
        "iptablesMasqueradeBit",
        "iptablesDropBit",
        "containerLogMaxWorkers",
        "configMapAndSecretChangeDetectionStrategy",
        "showHiddenMetricsForVersion",
        "volumePluginDir",
        "kernelMemcgNotification",
        "logging",
        "enableSystemLogQuery",
        "enableProfilingHandler",
        "enableDebugFlagsHandler",
        "memoryThrottlingFactor",
        "imagePullCredentialsVerificationPolicy",
        "preloadedImagesVerificationAllowlist",
        "topologyManagerScope",
        "podHousekeepingPeriod",
    )
)

# Fields of what is missing here, with the values that ask for nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "staticPodURL": ("",),
    "staticPodURLHeader": (None, {}),
    "systemCgroups": ("",),
    "cpuManagerPolicyOptions": (None, {}),
    "memoryManagerPolicy": ("", "None"),
    "topologyManagerPolicy": ("", "none"),
    "topologyManagerPolicyOptions": (None, {}),
    "qosReserved": (None, {}),
    "runOnce": (False,),
    "memorySwap": (None, {}, {"swapBehavior": ""}, {"swapBehavior": "NoSwap"}),
    "systemReservedCgroup": ("",),
    "kubeReservedCgroup": ("",),
    "readOnlyPort": (0,),
    "reservedMemory": (None, []),
    "tracing": (None,),
    "userNamespaces": (None, {}),
}


def parse(document: Object, where: str) -> dict[str, Any]:
    """Values by attribute name of Settings. Raises SettingsError naming the field."""
    values: dict[str, Any] = {}
    _walk(document, "", where, values)
    return values


def _walk(node: Mapping[str, Any], prefix: str, where: str, values: dict[str, Any]) -> None:
    for name, value in node.items():
        path = prefix + name
        field = FIELDS.get(path)
        if field is not None:
            # Upstream takes zero values for "not set".
            unset = value == "" and field.name != "resolv_conf" and field.default not in ("", dataclasses.MISSING)
            if value is not None and not unset:
                values[field.name] = _parsed(field, value, f"{where}: {path}")
        elif path in HARMLESS:
            continue
        elif path in UNSUPPORTED:
            if value not in UNSUPPORTED[path]:
                raise SettingsError(f"{where}: {path}: {value!r} is not supported")
        elif any(known.startswith(path + ".") for known in FIELDS):
            if not isinstance(value, dict):
                raise SettingsError(f"{where}: {path}: an object is needed")
            _walk(value, path + ".", where, values)
        else:
            raise SettingsError(f'{where}: strict decoding error: unknown field "{path}"')


def _parsed(field: dataclasses.Field[Any], value: Any, where: str) -> Any:
    try:
        parsed = field.metadata["parse"](value)
    except ValueError as error:
        raise SettingsError(f"{where}: {value!r}: {error}") from error
    default = field.default
    # A zero duration or port in the file means the default, except where zero says something.
    zero_means_default = isinstance(default, float) and default > 0 and parsed == 0
    return default if zero_means_default else parsed


def flag_value(flag: str, text: str) -> Any:
    """The value of a flag that stands for a field. Raises ValueError."""
    return FLAGS[flag].metadata["parse"](text)


def build(file_values: Mapping[str, Any], flag_values: Mapping[str, Any]) -> Settings:
    """Flags over file over defaults. Raises SettingsError for what does not go together."""
    chosen = Settings(**{**file_values, **flag_values})
    if "status_update_seconds" in file_values and "status_report_seconds" not in file_values:
        chosen = dataclasses.replace(chosen, status_report_seconds=chosen.status_update_seconds)
    if chosen.max_parallel_pulls > 1 and "serialize_pulls" not in {*file_values, *flag_values}:
        chosen = dataclasses.replace(chosen, serialize_pulls=False)
    if chosen.merge_eviction_defaults:
        merged = {**DEFAULT_EVICTION_HARD, **chosen.eviction_hard}
        chosen = dataclasses.replace(chosen, eviction_hard=merged)
    _validate(chosen)
    return chosen


def _validate(chosen: Settings) -> None:
    problems = [
        (not 0 <= chosen.image_gc_low_percent <= 100, "imageGCLowThresholdPercent must be between 0 and 100"),
        (not 0 <= chosen.image_gc_high_percent <= 100, "imageGCHighThresholdPercent must be between 0 and 100"),
        (
            chosen.image_gc_low_percent > chosen.image_gc_high_percent,
            "imageGCLowThresholdPercent must be less than imageGCHighThresholdPercent",
        ),
        (chosen.max_pods < 0, "maxPods must not be a negative number"),
        (not 0 <= chosen.healthz_port <= 65535, "healthzPort must be between 0 and 65535"),
        (not 0 <= chosen.port <= 65535, "port must be between 0 and 65535"),
        (not -1000 <= chosen.oom_score_adj <= 1000, "oomScoreAdj must be between -1000 and 1000"),
        (chosen.log_max_files <= 1, "containerLogMaxFiles must be greater than 1"),
        (chosen.lease_seconds <= 0, "nodeLeaseDurationSeconds must be greater than 0"),
        (bool(chosen.tls_cert_file) != bool(chosen.tls_key_file), "tlsCertFile and tlsPrivateKeyFile go together"),
        (set(chosen.enforce_allocatable) - {"pods", "none"} != set(), "enforceNodeAllocatable: only pods is supported"),
    ]
    for wrong, message in problems:
        if wrong:
            raise SettingsError(f"invalid KubeletConfiguration: {message}")
