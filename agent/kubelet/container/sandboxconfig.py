"""What the runtime is told about a pod's sandbox.

Source: kubelet's kuberuntime_sandbox.go.
"""

from __future__ import annotations

from agent.cri import api_pb2 as pb
from agent.kubelet.container import hostsfile, identity, resources, security
from agent.kubelet.container.dns import DnsConfig
from agent.kubelet.pods import spec
from agent.kubelet.settings import Settings
from machinery.api import meta, podresources
from machinery.api.meta import Object

_PROTOCOLS = {"TCP": pb.TCP, "UDP": pb.UDP, "SCTP": pb.SCTP}


def log_directory(pod: Object, pod_logs_dir: str) -> str:
    """`/var/log/pods/NAMESPACE_NAME_UID`."""
    return f"{pod_logs_dir}/{meta.namespace_of(pod)}_{meta.name_of(pod)}_{meta.uid_of(pod)}"


def build(
    pod: Object,
    attempt: int,
    settings: Settings,
    dns: DnsConfig,
    cgroup_parent: str,
    users: pb.UserNamespace | None = None,
) -> pb.PodSandboxConfig:
    """The sandbox's configuration. Raises StartError when the host name is impossible."""
    rules = resources.Rules(cfs_quota=settings.cpu_cfs_quota, period_seconds=settings.cpu_cfs_period_seconds)
    config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=meta.name_of(pod), namespace=meta.namespace_of(pod), uid=meta.uid_of(pod), attempt=attempt
        ),
        log_directory=log_directory(pod, settings.pod_logs_dir),
        dns_config=dns.to_cri(),
        labels=identity.pod_labels(pod),
        annotations=meta.annotations_of(pod),
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent,
            security_context=security.of_sandbox(pod, users),
            sysctls=security.sysctls(pod),
            overhead=_overhead(pod, rules),
            resources=resources.of_amounts(
                podresources.of_pod(pod, "requests"), podresources.of_pod(pod, "limits"), rules
            ),
        ),
    )
    if not spec.is_host_network(pod):
        config.hostname = hostsfile.kernel_name(pod, settings.cluster_domain)
        config.port_mappings.extend(_port_mappings(pod))
    return config


def _overhead(pod: Object, rules: resources.Rules) -> pb.LinuxContainerResources | None:
    overhead = pod["spec"].get("overhead")
    if not overhead:
        return None
    amounts = podresources.of_container({"resources": {"requests": overhead}})
    return resources.of_amounts(amounts, amounts, rules)


def _port_mappings(pod: Object) -> list[pb.PortMapping]:
    sidecars = [c for c in spec.init_containers(pod) if spec.is_sidecar(c)]
    return [
        pb.PortMapping(
            protocol=_PROTOCOLS.get(port.get("protocol") or "TCP", pb.TCP),
            container_port=port["containerPort"],
            host_port=port["hostPort"],
            host_ip=port.get("hostIP") or "",
        )
        for container in spec.containers(pod) + sidecars
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]
