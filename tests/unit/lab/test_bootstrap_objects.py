"""What a new cluster is given: every binding leads to a role, and who needs something gets it."""

from __future__ import annotations

from typing import Any

import pytest
import ryaml
from aiohttp import web

from lab import cluster
from lab.bootstrap import objects
from lab.topology import Topology
from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import name_of, namespace_of
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import Forbidden, InternalError, StatusError

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


async def _asked(refusal: StatusError) -> int:
    """Apply an object to a server that does not accept it the first time. How often it was asked."""
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            return web.json_response(refusal.to_status(), status=refusal.code)
        return web.json_response(await request.json(), status=201)

    application = web.Application()
    application.router.add_post("/api/v1/namespaces/d/configmaps", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with Client(ClientConfig(f"http://{host}:{port}"), user_agent="test") as client:
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}}
            await objects.apply(client, [(CONFIGMAPS, obj)])
    finally:
        await runner.cleanup()
    return asked


async def test_what_a_server_could_not_do_is_asked_for_again() -> None:
    assert await _asked(InternalError("the outcome of a write is unknown")) == 2


async def test_what_a_server_refuses_is_not_asked_for_again() -> None:
    with pytest.raises(Forbidden, match="no"):
        await _asked(Forbidden("no"))
