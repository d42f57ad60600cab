"""The cluster as a user first looks at it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]


def test_all_nodes_are_ready(lab: LiveLab) -> None:
    lines = lab.kubectl("get", "nodes", "--no-headers").stdout.splitlines()
    ready = {line.split()[0] for line in lines if line.split()[1] == "Ready"}
    assert {"cp1", "w1", "w2"} <= ready
    wide = lab.kubectl("get", "nodes", "-o", "wide").stdout
    assert "10.77.0.101" in wide
    assert "containerd://" in wide


def test_the_control_plane_is_seen_as_pods(lab: LiveLab, eventually: Eventually) -> None:
    hosts = [host.name for host in lab.topology.control_plane_hosts]
    components = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

    def ready() -> set[str]:
        pods = lab.get("pods", "-n", "kube-system", "-l", "tier=control-plane")["items"]
        return {
            pod["metadata"]["name"]
            for pod in pods
            if all(status["ready"] for status in pod["status"].get("containerStatuses") or [{"ready": False}])
        }

    expected = {f"{component}-{host}" for component in components for host in hosts}
    eventually(lambda: ready() == expected, 60, f"{len(expected)} mirror pods ready")
    pod = lab.get("pod", f"etcd-{hosts[0]}", "-n", "kube-system")
    assert pod["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert pod["spec"]["priorityClassName"] == "system-node-critical"
    assert "connected to etcd" in lab.kubectl("logs", "-n", "kube-system", f"kube-apiserver-{hosts[0]}").stdout


def test_every_node_runs_kube_proxy_and_the_network(lab: LiveLab, eventually: Eventually) -> None:
    hosts = [*lab.topology.control_plane_hosts, *lab.topology.worker_hosts]
    for name in ("kube-proxy", "navarch-network"):

        def everywhere(name: str = name) -> bool:
            status = lab.get("daemonset", name, "-n", "kube-system")["status"]
            return bool(status["numberReady"] == status["desiredNumberScheduled"] == len(hosts))

        eventually(everywhere, 60, f"{name} ready on {len(hosts)} nodes")
    assert lab.get("deployment", "coredns", "-n", "kube-system")["status"]["readyReplicas"]


def test_control_planes_are_labelled_and_tainted(lab: LiveLab) -> None:
    for host in lab.topology.control_plane_hosts:
        node = lab.get("node", host.name)
        assert "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
        assert {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert " control-plane " in lab.kubectl("get", "node", "cp1", "--no-headers").stdout


def test_describe_node_tells_what_a_user_looks_for(lab: LiveLab) -> None:
    told = lab.kubectl("describe", "node", "w1").stdout
    for expected in ("Conditions:", "KubeletReady", "Capacity:", "Allocatable:", "PodCIDR:", "Non-terminated Pods:"):
        assert expected in told


def test_the_api_server_says_its_version_and_health(lab: LiveLab) -> None:
    version = json.loads(lab.kubectl("get", "--raw", "/version").stdout)
    assert (version["major"], version["minor"].rstrip("+")) == ("1", "36")
    assert lab.kubectl("get", "--raw", "/readyz").stdout == "ok"
    assert "[+]etcd ok" in lab.kubectl("get", "--raw", "/readyz?verbose").stdout


def test_kubectl_finds_what_there_is(lab: LiveLab) -> None:
    resources = lab.kubectl("api-resources", "--no-headers", "-o", "name").stdout.split()
    for expected in (
        "pods",
        "deployments.apps",
        "jobs.batch",
        "endpointslices.discovery.k8s.io",
        "leases.coordination.k8s.io",
    ):
        assert expected in resources
    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= {
        item["metadata"]["name"] for item in lab.get("namespaces")["items"]
    }
    assert "replicas" in lab.kubectl("explain", "deployment.spec").stdout


def test_component_statuses_are_healthy(lab: LiveLab) -> None:
    for item in lab.get("componentstatuses")["items"]:
        assert item["conditions"][0]["status"] == "True", item


def test_one_scheduler_and_one_controller_manager_lead(lab: LiveLab) -> None:
    for name in ("kube-scheduler", "kube-controller-manager"):
        holder = lab.get("lease", name, "-n", "kube-system")["spec"]["holderIdentity"]
        assert holder.split("_")[0] in {"cp1", "cp2", "cp3"}


def test_the_service_kubernetes_leads_to_every_api_server(lab: LiveLab, eventually: Eventually) -> None:
    expected = {host.address for host in lab.topology.control_plane_hosts}

    def addresses() -> bool:
        slices = lab.get("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")["items"]
        return {address for each in slices for point in each["endpoints"] for address in point["addresses"]} == expected

    eventually(addresses, 30, f"endpoints of kubernetes are {expected}")


def test_the_administrator_may_everything_and_a_node_little(lab: LiveLab) -> None:
    assert lab.kubectl("auth", "can-i", "*", "*").stdout.strip() == "yes"
    node = ["--as", "system:node:w1", "--as-group", "system:nodes"]
    done = lab.kubectl("auth", "can-i", "delete", "deployments", *node, check=False)
    assert done.stdout.strip() == "no"
    refused = lab.kubectl("get", "secrets", "-n", "kube-system", *node, check=False)
    assert "Forbidden" in refused.stderr


def test_status_says_that_all_runs(lab: LiveLab) -> None:
    told = lab.navarch("status").stdout
    for component in ("etcd", "kube-apiserver", "kube-proxy", "kubelet", "containerd", "haproxy"):
        assert component in told
