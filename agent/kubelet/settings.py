"""What a KubeletConfiguration says: every field that has an effect here, with upstream's default.

A field is named by its path in the file; some can also be set by a flag, which then wins over the file, as upstream.
Fields that change nothing here are accepted (HARMLESS), fields of features that are missing are refused by name unless
they have their default value (`settingsfile`), and fields that upstream doesn't know are refused.

Source: kubelet.config.k8s.io/v1beta1 KubeletConfiguration (1.36) and its defaults.
"""

# ruff: noqa: RUF009 - _field only wraps dataclasses.field
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from agent.kubelet import settingvalues as values
from agent.kubelet.settingvalues import Parse
from machinery.api.meta import Object


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
    static_pod_path: str = _field("staticPodPath", values.text, "", "pod-manifest-path")
    file_check_seconds: float = _field("fileCheckFrequency", values.seconds, 20.0, "file-check-frequency")
    static_pod_url: str = _field("staticPodURL", values.text, "", "manifest-url")
    static_pod_url_headers: dict[str, list[str]] = _field(
        "staticPodURLHeader", values.headers, {}, "manifest-url-header"
    )
    url_check_seconds: float = _field("httpCheckFrequency", values.seconds, 20.0, "http-check-frequency")
    sync_seconds: float = _field("syncFrequency", values.seconds, 60.0, "sync-frequency")
    max_pods: int = _field("maxPods", values.integer, 110, "max-pods")
    pods_per_core: int = _field("podsPerCore", values.integer, 0, "pods-per-core")
    # Its server
    enable_server: bool = _field("enableServer", values.boolean, True, "enable-server")
    address: str = _field("address", values.text, "0.0.0.0", "address")
    port: int = _field("port", values.integer, 10250, "port")
    read_only_port: int = _field("readOnlyPort", values.integer, 0, "read-only-port")
    tls_cert_file: str = _field("tlsCertFile", values.text, "", "tls-cert-file")
    tls_key_file: str = _field("tlsPrivateKeyFile", values.text, "", "tls-private-key-file")
    tls_min_version: str = _field(
        "tlsMinVersion", values.one_of("", "VersionTLS12", "VersionTLS13"), "", "tls-min-version"
    )
    tls_cipher_suites: tuple[str, ...] = _field("tlsCipherSuites", values.cipher_suites, (), "tls-cipher-suites")
    client_ca_file: str = _field("authentication.x509.clientCAFile", values.text, "", "client-ca-file")
    anonymous_auth: bool = _field("authentication.anonymous.enabled", values.boolean, False, "anonymous-auth")
    token_webhook: bool = _field("authentication.webhook.enabled", values.boolean, True, "authentication-token-webhook")
    token_cache_seconds: float = _field(
        "authentication.webhook.cacheTTL", values.seconds, 120.0, "authentication-token-webhook-cache-ttl"
    )
    authorization_mode: str = _field(
        "authorization.mode", values.one_of("Webhook", "AlwaysAllow"), "Webhook", "authorization-mode"
    )
    allowed_cache_seconds: float = _field(
        "authorization.webhook.cacheAuthorizedTTL", values.seconds, 300.0, "authorization-webhook-cache-authorized-ttl"
    )
    denied_cache_seconds: float = _field(
        "authorization.webhook.cacheUnauthorizedTTL",
        values.seconds,
        30.0,
        "authorization-webhook-cache-unauthorized-ttl",
    )
    debugging_handlers: bool = _field("enableDebuggingHandlers", values.boolean, True, "enable-debugging-handlers")
    system_log_handler: bool = _field("enableSystemLogHandler", values.boolean, True)
    streaming_idle_seconds: float = _field(
        "streamingConnectionIdleTimeout", values.seconds, 14400.0, "streaming-connection-idle-timeout"
    )
    healthz_port: int = _field("healthzPort", values.integer, 10248, "healthz-port")
    healthz_address: str = _field("healthzBindAddress", values.text, "127.0.0.1", "healthz-bind-address")
    # Certificates
    rotate_certificates: bool = _field("rotateCertificates", values.boolean, False, "rotate-certificates")
    server_tls_bootstrap: bool = _field("serverTLSBootstrap", values.boolean, False)
    # The node
    register_node: bool = _field("registerNode", values.boolean, True, "register-node")
    register_taints: tuple[Object, ...] = _field("registerWithTaints", values.taints, (), "register-with-taints")
    status_update_seconds: float = _field(
        "nodeStatusUpdateFrequency", values.seconds, 10.0, "node-status-update-frequency"
    )
    status_report_seconds: float = _field("nodeStatusReportFrequency", values.seconds, 300.0)
    lease_seconds: int = _field("nodeLeaseDurationSeconds", values.integer, 40)
    max_images_shown: int = _field("nodeStatusMaxImages", values.integer, 50, "node-status-max-images")
    provider_id: str = _field("providerID", values.text, "", "provider-id")
    make_util_chains: bool = _field("makeIPTablesUtilChains", values.boolean, True, "make-iptables-util-chains")
    pod_cidr: str = _field("podCIDR", values.text, "", "pod-cidr")
    system_reserved: dict[str, str] = _field("systemReserved", values.mapping, {}, "system-reserved")
    kube_reserved: dict[str, str] = _field("kubeReserved", values.mapping, {}, "kube-reserved")
    enforce_allocatable: tuple[str, ...] = _field(
        "enforceNodeAllocatable", values.texts, ("pods",), "enforce-node-allocatable"
    )
    system_reserved_cgroup: str = _field("systemReservedCgroup", values.text, "", "system-reserved-cgroup")
    kube_reserved_cgroup: str = _field("kubeReservedCgroup", values.text, "", "kube-reserved-cgroup")
    qos_reserved: dict[str, str] = _field("qosReserved", values.mapping, {}, "qos-reserved")
    fail_swap_on: bool = _field("failSwapOn", values.boolean, True, "fail-swap-on")
    swap_behavior: str = _field("memorySwap.swapBehavior", values.text, "")
    protect_kernel_defaults: bool = _field("protectKernelDefaults", values.boolean, False, "protect-kernel-defaults")
    local_storage_isolation: bool = _field(
        "localStorageCapacityIsolation", values.boolean, True, "local-storage-capacity-isolation"
    )
    # The runtime
    runtime_endpoint: str = _field(
        "containerRuntimeEndpoint", values.text, "unix:///run/containerd/containerd.sock", "container-runtime-endpoint"
    )
    image_endpoint: str = _field("imageServiceEndpoint", values.text, "", "image-service-endpoint")
    runtime_timeout_seconds: float = _field("runtimeRequestTimeout", values.seconds, 120.0, "runtime-request-timeout")
    pod_logs_dir: str = _field("podLogsDir", values.text, "/var/log/pods")
    log_max_bytes: int = _field("containerLogMaxSize", values.size, 10 * 1024 * 1024, "container-log-max-size")
    log_max_files: int = _field("containerLogMaxFiles", values.integer, 5, "container-log-max-files")
    log_max_workers: int = _field("containerLogMaxWorkers", values.integer, 1)
    log_monitor_seconds: float = _field("containerLogMonitorInterval", values.seconds, 10.0)
    crash_loop_max_seconds: float = _field("crashLoopBackOff.maxContainerRestartPeriod", values.seconds, 300.0)
    # Images
    serialize_pulls: bool = _field("serializeImagePulls", values.boolean, True, "serialize-image-pulls")
    max_parallel_pulls: int = _field("maxParallelImagePulls", values.integer, 0)
    pull_qps: int = _field("registryPullQPS", values.integer, 5, "registry-qps")
    pull_burst: int = _field("registryBurst", values.integer, 10, "registry-burst")
    image_min_age_seconds: float = _field("imageMinimumGCAge", values.seconds, 120.0, "minimum-image-ttl-duration")
    image_max_age_seconds: float = _field("imageMaximumGCAge", values.seconds, 0.0)
    image_gc_high_percent: int = _field("imageGCHighThresholdPercent", values.integer, 85, "image-gc-high-threshold")
    image_gc_low_percent: int = _field("imageGCLowThresholdPercent", values.integer, 80, "image-gc-low-threshold")
    # What pods get
    cluster_domain: str = _field("clusterDomain", values.text, "", "cluster-domain")
    cluster_dns: tuple[str, ...] = _field("clusterDNS", values.texts, (), "cluster-dns")
    resolv_conf: str = _field("resolvConf", values.text, "/etc/resolv.conf", "resolv-conf")
    seccomp_default: bool = _field("seccompDefault", values.boolean, False, "seccomp-default")
    cpu_cfs_quota: bool = _field("cpuCFSQuota", values.boolean, True, "cpu-cfs-quota")
    cpu_cfs_period_seconds: float = _field("cpuCFSQuotaPeriod", values.seconds, 0.1, "cpu-cfs-quota-period")
    pod_pids_limit: int = _field("podPidsLimit", values.integer, -1, "pod-max-pids")
    allowed_unsafe_sysctls: tuple[str, ...] = _field("allowedUnsafeSysctls", values.texts, (), "allowed-unsafe-sysctls")
    user_ids_per_pod: int = _field("userNamespaces.idsPerPod", values.integer, 65536)
    # Where on the machine they are
    reserved_cpus: str = _field("reservedSystemCPUs", values.text, "", "reserved-cpus")
    reserved_memory: tuple[Object, ...] = _field("reservedMemory", values.reservations, (), "reserved-memory")
    cpu_manager_policy: str = _field(
        "cpuManagerPolicy", values.one_of("", "none", "static"), "none", "cpu-manager-policy"
    )
    cpu_manager_options: dict[str, str] = _field(
        "cpuManagerPolicyOptions", values.mapping, {}, "cpu-manager-policy-options"
    )
    cpu_reconcile_seconds: float = _field(
        "cpuManagerReconcilePeriod", values.seconds, 10.0, "cpu-manager-reconcile-period"
    )
    memory_manager_policy: str = _field(
        "memoryManagerPolicy", values.one_of("", "None", "Static"), "None", "memory-manager-policy"
    )
    topology_manager_policy: str = _field(
        "topologyManagerPolicy",
        values.text,
        "none",
        "topology-manager-policy",
    )
    topology_manager_scope: str = _field("topologyManagerScope", values.text, "container", "topology-manager-scope")
    topology_manager_options: dict[str, str] = _field(
        "topologyManagerPolicyOptions", values.mapping, {}, "topology-manager-policy-options"
    )
    single_process_oom_kill: bool = _field("singleProcessOOMKill", values.boolean, False)
    # Control groups
    cgroup_root: str = _field("cgroupRoot", values.text, "", "cgroup-root")
    cgroups_per_qos: bool = _field("cgroupsPerQOS", values.boolean, True, "cgroups-per-qos")
    cgroup_driver: str = _field("cgroupDriver", values.one_of("cgroupfs", "systemd"), "cgroupfs", "cgroup-driver")
    fail_cgroup_v1: bool = _field("failCgroupV1", values.boolean, False)
    # Eviction
    eviction_hard: dict[str, str] = _field("evictionHard", values.thresholds, DEFAULT_EVICTION_HARD, "eviction-hard")
    eviction_soft: dict[str, str] = _field("evictionSoft", values.thresholds, {}, "eviction-soft")
    eviction_soft_grace: dict[str, str] = _field(
        "evictionSoftGracePeriod", values.mapping, {}, "eviction-soft-grace-period"
    )
    eviction_transition_seconds: float = _field(
        "evictionPressureTransitionPeriod", values.seconds, 300.0, "eviction-pressure-transition-period"
    )
    eviction_max_grace_seconds: int = _field(
        "evictionMaxPodGracePeriod", values.integer, 0, "eviction-max-pod-grace-period"
    )
    eviction_minimum_reclaim: dict[str, str] = _field(
        "evictionMinimumReclaim", values.mapping, {}, "eviction-minimum-reclaim"
    )
    merge_eviction_defaults: bool = _field("mergeDefaultEvictionSettings", values.boolean, False)
    oom_score_adj: int = _field("oomScoreAdj", values.integer, -999, "oom-score-adj")
    shutdown_seconds: float = _field("shutdownGracePeriod", values.seconds, 0.0)
    shutdown_critical_seconds: float = _field("shutdownGracePeriodCriticalPods", values.seconds, 0.0)
    shutdown_by_priority: tuple[Object, ...] = _field("shutdownGracePeriodByPodPriority", values.objects, ())
    feature_gates: dict[str, str] = _field("featureGates", values.mapping, {}, "feature-gates")

    @property
    def parallel_pulls(self) -> int:
        """How many images are pulled at a time; 0 for any number."""
        return 1 if self.serialize_pulls else self.max_parallel_pulls

    def gate(self, name: str, *, default: bool) -> bool:
        """Whether a feature gate is on."""
        return values.boolean(self.feature_gates[name]) if name in self.feature_gates else default


FIELDS = {field.metadata["path"]: field for field in dataclasses.fields(Settings)}
FLAGS = {field.metadata["flag"]: field for field in dataclasses.fields(Settings) if field.metadata["flag"]}
