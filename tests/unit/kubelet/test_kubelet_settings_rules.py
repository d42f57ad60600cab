"""A KubeletConfiguration that can not be: everything that is wrong with it, in upstream's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kubelet import flags
from machinery.errors import SettingsError

ENFORCE = "enforceNodeAllocatable (--enforce-node-allocatable)"
LOW = "imageGCLowThresholdPercent (--image-gc-low-threshold)"
HIGH = "imageGCHighThresholdPercent (--image-gc-high-threshold)"
SYSTEM, KUBE = "systemReservedCgroup (--system-reserved-cgroup)", "kubeReservedCgroup (--kube-reserved-cgroup)"
BOTH_SYSTEM = 'must be specified when "system-reserved" or "system-reserved-compressible" included in'
BOTH_KUBE = 'must be specified when "kube-reserved" or "kube-reserved-compressible" included in'
NUMA = "only [memory hugepages-<HugePageSize>] is accepted"


def parse(folder: Path, text: str) -> flags.Options:
    path = folder / "config.yaml"
    path.write_text(f"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}\n")
    return flags.parse([f"--config={path}"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodeLeaseDurationSeconds: -1", "nodeLeaseDurationSeconds must be greater than 0"),
        ("healthzPort: 65536", "healthzPort (--healthz-port) 65536 must be between 1 and 65535, inclusive"),
        ("port: -1", "port (--port) -1 must be between 1 and 65535, inclusive"),
        ("readOnlyPort: 65536", "readOnlyPort (--read-only-port) 65536 must be between 0 and 65535, inclusive"),
        (
            "cpuCFSQuotaPeriod: 2s",
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) 2s must be between 1ms and 1sec, inclusive",
        ),
        ("imageGCHighThresholdPercent: 101", f"{HIGH} 101 must be between 0 and 100, inclusive"),
        (
            "imageGCLowThresholdPercent: -1",
            f"{LOW} -1 must be between 0 and 100, inclusive",
        ),
        (
            "imageGCLowThresholdPercent: 85",
            f"{LOW} 85 must be less than {HIGH} 85",
        ),
        ("imageMinimumGCAge: -1s", "imageMinimumGCAge -1s must not be negative"),
        ("imageMaximumGCAge: -1s", "imageMaximumGCAge -1s must not be negative"),
        ("imageMaximumGCAge: 1m", "imageMaximumGCAge 1m0s must be greater than imageMinimumGCAge 2m0s"),
        ("nodeStatusMaxImages: -2", "nodeStatusMaxImages (--node-status-max-images) -2 must be -1 or greater"),
        ("maxPods: -1", "maxPods (--max-pods) -1 must not be a negative number"),
        ("podsPerCore: -1", "podsPerCore (--pods-per-core) -1 must not be a negative number"),
        ("registryBurst: -1", "registryBurst (--registry-burst) -1 must not be a negative number"),
        ("registryPullQPS: -1", "registryPullQPS (--registry-qps) -1 must not be a negative number"),
        ("oomScoreAdj: -1001", "oomScoreAdj (--oom-score-adj) -1001 must be between -1000 and 1000, inclusive"),
        ("maxParallelImagePulls: -1", "maxParallelImagePulls -1 must be a positive number"),
        (
            "serializeImagePulls: true\nmaxParallelImagePulls: 2",
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set "
            "to false",
        ),
        (
            "topologyManagerPolicy: unknown",
            'topologyManagerPolicy (--topology-manager-policy) "unknown" must be one of: '
            '["none" "best-effort" "restricted" "single-numa-node"]',
        ),
        (
            "topologyManagerScope: unknown",
            'topologyManagerScope (--topology-manager-scope) "unknown" must be one of: "container", or "pod"',
        ),
        (
            "shutdownGracePeriod: 1s\nshutdownGracePeriodCriticalPods: 2s",
            "shutdownGracePeriodCriticalPods 2s must be <= shutdownGracePeriod 1s",
        ),
        ("shutdownGracePeriod: 1ms", "shutdownGracePeriod 1ms must be either zero or otherwise >= 1 sec"),
        (
            "shutdownGracePeriod: 2s\nshutdownGracePeriodCriticalPods: 500ms",
            "shutdownGracePeriodCriticalPods 500ms must be either zero or otherwise >= 1 sec",
        ),
        (
            "shutdownGracePeriod: 2s\n"
            "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 10}]",
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
        ),
        (
            "memorySwap: {swapBehavior: invalid}",
            'memorySwap.swapBehavior "invalid" must be one of: "", "LimitedSwap" or "NoSwap"',
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 301s}",
            "CrashLoopBackOff.MaxContainerRestartPeriod (got: 301 seconds) must be set between 1s and 300s",
        ),
        ("enforceNodeAllocatable: [system-reserved]", f"{SYSTEM} {BOTH_SYSTEM} {ENFORCE}"),
        ("enforceNodeAllocatable: [kube-reserved-compressible]", f"{KUBE} {BOTH_KUBE} {ENFORCE}"),
        (
            "kubeReservedCgroup: /k\nenforceNodeAllocatable: [kube-reserved, kube-reserved-compressible]",
            f'both "kube-reserved" and "kube-reserved-compressible" cannot be specified together in {ENFORCE}',
        ),
        ("enforceNodeAllocatable: [pods, pods]", f'duplicated enforcements "pods" in {ENFORCE}'),
        (
            "enforceNodeAllocatable: [pods, none]",
            f'{ENFORCE} may not contain additional enforcements when "none" is specified',
        ),
        (
            "enforceNodeAllocatable: [pots]",
            f'option "pots" specified for {ENFORCE}. Valid options are "pods", "system-reserved", '
            '"system-reserved-compressible", "kube-reserved", "kube-reserved-compressible" or "none"',
        ),
        (
            "cgroupsPerQOS: false",
            f'cgroupsPerQOS (--cgroups-per-qos) must be set to true when "pods" contained in {ENFORCE}',
        ),
        (
            "reservedSystemCPUs: 0-1\nsystemReservedCgroup: /s",
            f"can't use reservedSystemCPUs (--reserved-cpus) with {SYSTEM} or {KUBE}",
        ),
        (
            "reservedMemory: [{numaNode: 0, limits: {memory: 0}}]",
            'reserved memory may not be zero for NUMA node 0 and resource "memory"',
        ),
        (
            "reservedMemory: [{numaNode: 1, limits: {cpu: 1}}]",
            f'the limit type "cpu" for NUMA node 1 is not supported, {NUMA}',
        ),
        ("userNamespaces: {idsPerPod: 1000}", "userNamespaces.idsPerPod must be a multiple of 65536"),
        (
            "qosReserved: {memory: 200%}",
            'qosReserved (--qos-reserved): "200%" is not a percentage between 0% and 100%',
        ),
        ("containerLogMaxFiles: 1", "containerLogMaxFiles must be greater than 1"),
        ("containerLogMaxWorkers: -1", "containerLogMaxWorkers must be greater than or equal to 1"),
        (
            "containerLogMonitorInterval: 1s",
            "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s",
        ),
        ("podLogsDir: logs", 'pod logs path "logs" must be absolute path'),
        ("podLogsDir: /path/../", 'pod logs path "/path/../" must be normalized'),
        ("podLogsDir: /🧪", 'pod logs path "/🧪" mut contains ASCII characters only'),
    ],
)
def test_what_is_wrong_is_told_in_upstreams_words(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(tmp_path, text)
    assert str(caught.value) == f"invalid configuration: {told}"


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(tmp_path, "maxPods: -1\nreservedSystemCPUs: x\nimageGCLowThresholdPercent: 90")
    begin, *texts = str(caught.value).split("invalid configuration: ")
    assert begin == "["
    assert [text.split()[0] for text in texts] == ["maxPods", "imageGCLowThresholdPercent", "unable"]


def test_fields_that_are_not_known_count_for_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = parse(tmp_path, "maxPods: 20\nnonsense: 1\nauthentication: {x509: {odd: 1}}")
    assert options.settings.max_pods == 20
    assert caplog.text.count("using lenient decoding as strict decoding failed") == 2
