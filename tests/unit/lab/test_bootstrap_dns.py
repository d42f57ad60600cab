"""The DNS add-on: its parts fit each other, and our server understands its Corefile."""

from __future__ import annotations

from agent.dns.configuration import read
from lab import cluster
from lab.bootstrap import dns
from lab.topology import Topology

CONFIG = cluster.configuration(Topology())
PLANNED = {obj["kind"]: obj for _, obj in dns.plan(CONFIG, "registry.example/navarch:1")}


def test_the_service_has_the_tenth_address_and_leads_to_the_pods() -> None:
    spec = PLANNED["Service"]["spec"]
    assert spec["clusterIP"] == "10.96.0.10"
    template = PLANNED["Deployment"]["spec"]["template"]
    assert spec["selector"].items() <= template["metadata"]["labels"].items()
    opened = {(p["containerPort"], p["protocol"]) for p in template["spec"]["containers"][0]["ports"]}
    assert {(p["targetPort"], p["protocol"]) for p in spec["ports"]} <= opened


def test_the_pods_may_look_at_what_names_are_made_from() -> None:
    binding = PLANNED["ClusterRoleBinding"]
    pod = PLANNED["Deployment"]["spec"]["template"]["spec"]
    assert binding["roleRef"]["name"] == PLANNED["ClusterRole"]["metadata"]["name"]
    assert binding["subjects"][0]["name"] == pod["serviceAccountName"] == PLANNED["ServiceAccount"]["metadata"]["name"]
    assert {r for rule in PLANNED["ClusterRole"]["rules"] for r in rule["resources"]} == {
        "endpoints",
        "endpointslices",
        "namespaces",
        "pods",
        "services",
    }


def test_the_corefile_is_understood_and_its_ports_are_those_of_the_probes() -> None:
    made = read(PLANNED["ConfigMap"]["data"]["Corefile"])
    assert made.kubernetes is not None
    assert made.kubernetes.zones[0] == "cluster.local"
    ports = {
        p["name"]: p["containerPort"]
        for p in PLANNED["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert (made.port, made.health, made.ready, made.metrics) == (
        ports["dns"],
        ("", ports["liveness-probe"]),
        ("", ports["readiness-probe"]),
        ("", ports["metrics"]),
    )
