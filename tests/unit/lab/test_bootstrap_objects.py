"""What a new cluster is given: every binding leads to a role, and who needs something gets it."""

from __future__ import annotations

from typing import Any

import ryaml

from lab import cluster
from lab.bootstrap import objects
from lab.topology import Topology
from machinery.api.meta import name_of, namespace_of

CONFIG = cluster.configuration(Topology())
PLANNED = [*objects.plan(CONFIG, "documents"), *objects.cluster_info(CONFIG, b"the CA")]

# Roles that every API server makes by itself. Source: Kubernetes, "Default roles and role bindings".
BUILT_IN = {
    "cluster-admin",
    "system:node-bootstrapper",
    "system:node-proxier",
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
}


def of_kind(kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(namespace_of(obj), name_of(obj)): obj for _, obj in PLANNED if obj["kind"] == kind}


def test_every_binding_leads_to_a_role_that_is_there() -> None:
    for obj in of_kind("ClusterRoleBinding").values():
        name = obj["roleRef"]["name"]
        assert name in BUILT_IN or ("", name) in of_kind("ClusterRole")
    for (namespace, _), obj in of_kind("RoleBinding").items():
        assert (namespace, obj["roleRef"]["name"]) in of_kind("Role")


def test_resources_and_kinds_fit() -> None:
    for resource, obj in PLANNED:
        assert (resource.kind, resource.api_version) == (obj["kind"], obj["apiVersion"])
        assert resource.namespaced == bool(namespace_of(obj))


def test_administrators_are_powerful_by_a_binding_that_can_be_taken_away() -> None:
    binding = of_kind("ClusterRoleBinding")["", "kubeadm:cluster-admins"]
    assert binding["roleRef"]["name"] == "cluster-admin"
    assert [subject["name"] for subject in binding["subjects"]] == ["kubeadm:cluster-admins"]


def test_the_network_agent_may_look_at_what_the_network_is_made_of_and_tell_and_no_more() -> None:
    rules = of_kind("ClusterRole")["", "navarch-network"]["rules"]
    looks = {name for rule in rules if rule["verbs"] == ["get", "list", "watch"] for name in rule["resources"]}
    assert looks == {"nodes", "namespaces", "pods", "networkpolicies"}
    assert {name for rule in rules if "create" in rule["verbs"] for name in rule["resources"]} == {"events"}


def test_cluster_info_says_where_the_cluster_is_and_holds_no_credential() -> None:
    info = ryaml.loads(of_kind("ConfigMap")["kube-public", "cluster-info"]["data"]["kubeconfig"])
    assert info["clusters"][0]["cluster"]["server"] == "https://10.77.0.10:6443"
    assert info["users"] == []
