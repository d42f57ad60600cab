"""The configuration files of what runs on every host: the kubelet's and kube-proxy's, as kubeadm writes them.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ and kube-proxy-config.v1alpha1/;
kubeadm, apis/kubeadm/v1beta4 componentconfigs (its defaults for both).
"""

from __future__ import annotations

from typing import Any

from lab.bootstrap import components
from lab.bootstrap.configuration import ClusterConfiguration

PROXY_KUBECONFIG = "/var/lib/kube-proxy/kubeconfig.conf"


def kubelet_configuration(config: ClusterConfiguration) -> dict[str, Any]:
    """The KubeletConfiguration of a host."""
    defaults: dict[str, Any] = {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "0s"},
            "x509": {"clientCAFile": f"{config.certificates_dir}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [config.networking.dns_service_address],
        "clusterDomain": config.networking.dns_domain,
        "containerRuntimeEndpoint": config.node.cri_socket,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "rotateCertificates": True,
        "staticPodPath": "/etc/kubernetes/manifests",
    }
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        **defaults,
        **config.kubelet,
    }


def kubelet_flags_file(config: ClusterConfiguration) -> str:
    """The file that a supervisor takes the kubelet's other arguments from, as an environment."""
    return f'KUBELET_KUBEADM_ARGS="{" ".join(components.kubelet_flags(config))}"\n'


def proxy_configuration(config: ClusterConfiguration) -> dict[str, Any]:
    """The KubeProxyConfiguration of a host."""
    defaults: dict[str, Any] = {
        "bindAddress": "0.0.0.0",
        "clientConnection": {"kubeconfig": PROXY_KUBECONFIG},
        "clusterCIDR": config.networking.pod_subnet,
    }
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        **defaults,
        **config.proxy,
    }
