"""The DaemonSets of a cluster: kube-proxy as kubeadm sets it up, and the pod network.

Source: kubeadm, phases/addons/proxy; DaemonSets and their tolerations as network add-ons have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ryaml

from lab.bootstrap import images, manifests
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.manifests import BOOTSTRAPPERS, SYSTEM, Planned
from lab.bootstrap.nodefiles import PROXY_KUBECONFIG, proxy_configuration
from machinery.api.catalogue import DAEMONSETS, SERVICEACCOUNTS
from machinery.api.meta import Object

PROXY = "kube-proxy"
NETWORK = "navarch-network"
_PROXY_FOLDER = PROXY_KUBECONFIG.rpartition("/")[0]
_NETWORK_FOLDER = "/var/lib/navarch-network"
_ACCOUNT_FILES = "/var/run/secrets/kubernetes.io/serviceaccount"


def proxy(config: ClusterConfiguration) -> list[Planned]:
    """kube-proxy on every node."""
    data = {"config.conf": ryaml.dumps(proxy_configuration(config)), "kubeconfig.conf": _kubeconfig(config)}
    container = {
        "name": PROXY,
        "image": images.component(config, PROXY),
        "command": [
            "/usr/local/bin/kube-proxy",
            f"--config={_PROXY_FOLDER}/config.conf",
            "--hostname-override=$(NODE_NAME)",
        ],
    }
    volumes = {
        PROXY: (_PROXY_FOLDER, {"configMap": {"name": PROXY}}),
        "xtables-lock": ("/run/xtables.lock", _host_path("/run/xtables.lock", "FileOrCreate")),
        "lib-modules": ("/lib/modules", _host_path("/lib/modules", "")),
    }
    return [
        _account(PROXY),
        manifests.cluster_binding("kubeadm:node-proxier", "system:node-proxier", manifests.account(PROXY)),
        _configuration(PROXY, {"app": PROXY}, data),
        manifests.role(SYSTEM, PROXY, manifests.rule(["get"], "", "configmaps", [PROXY])),
        manifests.binding(SYSTEM, PROXY, manifests.group(BOOTSTRAPPERS)),
        (DAEMONSETS, _daemon_set(PROXY, container, volumes, read_only=("lib-modules",))),
    ]


def network(config: ClusterConfiguration) -> list[Planned]:
    """The pod network's agent on every node."""
    container = {
        "name": NETWORK,
        "image": images.component(config, NETWORK),
        "command": [
            "/usr/local/bin/navarch-network",
            f"--kubeconfig={_NETWORK_FOLDER}/kubeconfig.conf",
            "--hostname-override=$(NODE_NAME)",
        ],
    }
    volumes = {
        NETWORK: (_NETWORK_FOLDER, {"configMap": {"name": NETWORK}}),
        "cni": ("/etc/cni/net.d", _host_path("/etc/cni/net.d", "DirectoryOrCreate")),
    }
    return [
        _account(NETWORK),
        manifests.cluster_role(
            NETWORK,
            *(manifests.rule(["get", "list", "watch"], "", name) for name in ("nodes", "namespaces", "pods")),
            manifests.rule(["get", "list", "watch"], "networking.k8s.io", "networkpolicies"),
            *(manifests.rule(["create", "patch", "update"], group, "events") for group in ("", "events.k8s.io")),
        ),
        manifests.cluster_binding(NETWORK, NETWORK, manifests.account(NETWORK)),
        _configuration(NETWORK, {"app": NETWORK}, {"kubeconfig.conf": _kubeconfig(config)}),
        (DAEMONSETS, _daemon_set(NETWORK, container, volumes)),
    ]


def _account(name: str) -> Planned:
    return SERVICEACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": manifests.meta(name, SYSTEM)}


def _configuration(name: str, labels: Mapping[str, str], data: Mapping[str, str]) -> Planned:
    resource, body = manifests.config_map(SYSTEM, name, dict(data))
    return resource, {**body, "metadata": {**body["metadata"], "labels": dict(labels)}}


def _kubeconfig(config: ClusterConfiguration) -> str:
    """As the pod's ServiceAccount at the cluster's endpoint: neither of these two can wait for Services to work."""
    cluster = {"certificate-authority": f"{_ACCOUNT_FILES}/ca.crt", "server": f"https://{config.endpoint}"}
    context = {"cluster": "default", "namespace": "default", "user": "default"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": cluster}],
        "contexts": [{"name": "default", "context": context}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": f"{_ACCOUNT_FILES}/token"}}],
    }
    return str(ryaml.dumps(content))


def _host_path(path: str, kind: str) -> dict[str, Any]:
    return {"hostPath": {"path": path, "type": kind}}


def _daemon_set(
    name: str,
    container: Mapping[str, Any],
    volumes: Mapping[str, tuple[str, dict[str, Any]]],
    read_only: tuple[str, ...] = (),
) -> Object:
    """One privileged container on every node; `volumes` are (where it is mounted, what it is) by name."""
    labels = {"k8s-app": name}
    mounts = [
        {"mountPath": path, "name": each, **({"readOnly": True} if each in read_only else {})}
        for each, (path, _) in volumes.items()
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {**manifests.meta(name, SYSTEM), "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "containers": [
                        {
                            **container,
                            "imagePullPolicy": "IfNotPresent",
                            "securityContext": {"privileged": True},
                            "volumeMounts": mounts,
                            "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                        }
                    ],
                    "hostNetwork": True,
                    "serviceAccountName": name,
                    "volumes": [{"name": each, **what} for each, (_, what) in volumes.items()],
                    "tolerations": [{"operator": "Exists"}],
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                },
            },
        },
    }
