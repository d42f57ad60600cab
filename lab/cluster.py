"""The lab's cluster as kubeadm would be told of it: the documents that `init` and `join` read."""

from __future__ import annotations

from typing import Any

import ryaml

from lab.bootstrap.components import initial_cluster
from lab.bootstrap.configuration import BIND_PORT, ClusterConfiguration
from lab.bootstrap.reading import parse_configuration
from lab.images.release import Release
from lab.topology import DNS_DOMAIN, POD_SUBNET, SERVICE_SUBNET, Topology

TOKENS = "/etc/kubernetes/tokens.csv"
"""Where an API server finds the administrator's bearer token."""


def documents(topology: Topology, release: Release | None = None) -> list[dict[str, Any]]:
    """A kubeadm configuration for the lab; with a release, its images and no others are used."""
    members = [(host.name, host.address) for host in topology.control_plane_hosts]
    balancer = topology.load_balancer
    version = {"kubernetesVersion": release.version} if release else {}
    image = {"imageTag": release.etcd_tag} if release else {}
    tokens = {"name": "tokens", "hostPath": TOKENS, "mountPath": TOKENS, "readOnly": True, "pathType": "File"}
    return [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": "navarch",
            **version,
            # Made in a moment, and cheaper to shake hands with than RSA.
            "encryptionAlgorithm": "ECDSA-P256",
            "controlPlaneEndpoint": f"{balancer.address}:{BIND_PORT}",
            "networking": {"serviceSubnet": SERVICE_SUBNET, "podSubnet": POD_SUBNET, "dnsDomain": DNS_DOMAIN},
            "etcd": {
                "local": {
                    **image,
                    "extraArgs": _arguments(
                        {
                            "initial-cluster": initial_cluster(members),
                            # Half as often as etcd's own, at the same election timeout: members on one machine hear
                            # of each other at once or not at all.
                            "heartbeat-interval": "200",
                        }
                    ),
                }
            },
            "apiServer": {
                "certSANs": ["127.0.0.1", "localhost", balancer.name],
                "extraArgs": _arguments(
                    {
                        # All members, so that an API server outlives the etcd beside it.
                        "etcd-servers": ",".join(f"https://{address}:2379" for _, address in members),
                        "token-auth-file": TOKENS,
                    }
                ),
                "extraVolumes": [tokens],
            },
        },
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failSwapOn": False,  # the machine is the user's own
        },
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": topology.proxy_mode,
            # The table of connections is the machine's, shared by all hosts: leave its size alone.
            "conntrack": {"maxPerCore": 0, "min": 0},
        },
    ]


def configuration(topology: Topology, release: Release | None = None) -> ClusterConfiguration:
    """What `documents` say, read the way every such file is read."""
    return parse_configuration(documents(topology, release), "the lab's configuration")


def documents_text(topology: Topology, config: ClusterConfiguration) -> str:
    """The ClusterConfiguration alone, as the cluster keeps it."""
    document = documents(topology)[0] | {"kubernetesVersion": config.kubernetes_version}
    document["etcd"]["local"] |= {"imageTag": config.etcd.image_tag}
    return str(ryaml.dumps(document))


def _arguments(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
