"""The cluster's DNS as kubeadm sets it up, names included, so that CoreDNS and our server can take each other's place.

Source: kubeadm, phases/addons/dns.
"""

from __future__ import annotations

from typing import Any

from lab.bootstrap import manifests
from lab.bootstrap.configuration import ClusterConfiguration
from lab.bootstrap.manifests import SYSTEM, Planned
from machinery.api.catalogue import DEPLOYMENTS, SERVICEACCOUNTS, SERVICES
from machinery.api.meta import Object

NAME = "coredns"
LABELS = {"k8s-app": "kube-dns"}
REPLICAS = 2
_ROLE = "system:coredns"
_FOLDER = "/etc/coredns"


def plan(config: ClusterConfiguration, image: str) -> list[Planned]:
    """Every object of the add-on; `image` runs `agent.dns`, or CoreDNS."""
    return [
        (SERVICEACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": manifests.meta(NAME, SYSTEM)}),
        manifests.cluster_role(
            _ROLE,
            *(manifests.rule(["list", "watch"], "", name) for name in ("endpoints", "services", "pods", "namespaces")),
            manifests.rule(["list", "watch"], "discovery.k8s.io", "endpointslices"),
        ),
        manifests.cluster_binding(_ROLE, _ROLE, manifests.account(NAME)),
        manifests.config_map(SYSTEM, NAME, {"Corefile": corefile(config.networking.dns_domain)}),
        (SERVICES, _service(config.networking.dns_service_address)),
        (DEPLOYMENTS, _deployment(image)),
    ]


def corefile(domain: str) -> str:
    """The server's configuration."""
    return f"""\
.:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"""


def _service(address: str) -> Object:
    labels = {**LABELS, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    annotations = {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}
    ports = [("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**manifests.meta("kube-dns", SYSTEM), "labels": labels, "annotations": annotations},
        "spec": {
            "clusterIP": address,
            "selector": LABELS,
            "ports": [{"name": n, "port": p, "protocol": protocol, "targetPort": p} for n, p, protocol in ports],
        },
    }


def _deployment(image: str) -> Object:
    apart = {
        "labelSelector": {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": [LABELS["k8s-app"]]}]},
        "topologyKey": "kubernetes.io/hostname",
    }
    files = {"name": NAME, "items": [{"key": "Corefile", "path": "Corefile"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**manifests.meta(NAME, SYSTEM), "labels": LABELS},
        "spec": {
            "replicas": REPLICAS,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": NAME,
                    "affinity": {
                        "podAntiAffinity": {
                            "preferredDuringSchedulingIgnoredDuringExecution": [
                                {"weight": 100, "podAffinityTerm": apart}
                            ]
                        }
                    },
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                    ],
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "containers": [_container(image)],
                    "dnsPolicy": "Default",
                    "volumes": [{"name": "config-volume", "configMap": files}],
                },
            },
        },
    }


def _container(image: str) -> dict[str, Any]:
    ports = [
        ("dns", 53, "UDP"),
        ("dns-tcp", 53, "TCP"),
        ("metrics", 9153, "TCP"),
        ("liveness-probe", 8080, "TCP"),
        ("readiness-probe", 8181, "TCP"),
    ]
    live = {"httpGet": {"path": "/health", "port": "liveness-probe", "scheme": "HTTP"}, "initialDelaySeconds": 60}
    return {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "args": ["-conf", f"{_FOLDER}/Corefile"],
        "volumeMounts": [{"name": "config-volume", "mountPath": _FOLDER, "readOnly": True}],
        "ports": [{"containerPort": p, "name": n, "protocol": protocol} for n, p, protocol in ports],
        "livenessProbe": {**live, "timeoutSeconds": 5, "successThreshold": 1, "failureThreshold": 5},
        # As soon as it can answer, names work: kubeadm's 10 s would be most of the time that a lab takes to start.
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": "readiness-probe", "scheme": "HTTP"},
            "periodSeconds": 2,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
