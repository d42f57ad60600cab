"""Webhooks that deny, in pods: what they are asked, what is told of their answers, and when they are not asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cluster import Cluster, container, requirement, sleeper
from cluster import pod as a_pod
from definitions import definition, served
from hooks import MUTATING, VALIDATING, rules, serve
from lab_images import REGISTRY
from objects import replace

from machinery.api.catalogue import CONFIGMAPS, CUSTOMRESOURCEDEFINITIONS, NAMESPACES, PODS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC
from machinery.errors import InternalError, NotFound, StatusError

pytest_plugins = ["cluster_fixture"]

_UNWANTED = "the configmap contains unwanted key and value"
_DISALLOWED: Object = {"data": {"webhook-e2e-test": "webhook-disallow"}}


def _named(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name}, **more}


def _set(value: str) -> Any:
    return lambda found: found.setdefault("data", {}).update({"webhook-e2e-test": value})


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation [Conformance]"
)
async def test_pods_and_config_maps_are_denied(cluster: Cluster) -> None:
    server = await serve(cluster)
    skipped = {"key": "skip-webhook-admission", "operator": "NotIn", "values": ["yes"]}
    here = {"key": "e2e-test", "operator": "In", "values": [cluster.namespace]}
    await _label(cluster, cluster.namespace, {"e2e-test": cluster.namespace})
    selected: Object = {"namespaceSelector": {"matchExpressions": [here, skipped]}}
    fails_open = server.hook("fail-open.k8s.io", "/configmaps", rules("configmaps"), failurePolicy="Ignore")
    fails_open["clientConfig"].pop("caBundle")
    hooks = [
        server.hook("deny-pods.k8s.io", "/pods", rules("pods"), **selected),
        server.hook("deny-data.k8s.io", "/data", rules("configmaps", on="CREATE UPDATE DELETE"), **selected),
        fails_open,
    ]
    async with server.registered(VALIDATING, *hooks):
        unwanted = container(name="webhook-disallow", image=f"{REGISTRY}/pause:3.10")
        with pytest.raises(StatusError, match="unwanted container name") as denied:
            await cluster.create(PODS, a_pod("disallowed", unwanted, labels=_DISALLOWED["data"]))
        assert "the pod contains unwanted label" in denied.value.message
        hanging = asyncio.create_task(_hangs(cluster))
        with pytest.raises(StatusError, match=_UNWANTED):
            await cluster.create(CONFIGMAPS, _named("disallowed") | _DISALLOWED)
        await cluster.create(CONFIGMAPS, _named("allowed", data={"admit": "this"}))
        with pytest.raises(StatusError, match=_UNWANTED):
            await replace(cluster, CONFIGMAPS, "allowed", _set("webhook-disallow"))
        with pytest.raises(StatusError, match=_UNWANTED):
            await cluster.patch(CONFIGMAPS, "allowed", _DISALLOWED, content_type=STRATEGIC)
        async with cluster.anothernamespace(
            **{"e2e-test": cluster.namespace, "skip-webhook-admission": "yes"}
        ) as another:
            await another.create(CONFIGMAPS, _named("disallowed") | _DISALLOWED)
        await hanging


async def _label(cluster: Cluster, namespace: str, labels: Object) -> None:
    await cluster.client.patch(NAMESPACES, namespace, {"metadata": {"labels": labels}})


async def _hangs(cluster: Cluster) -> None:
    """A webhook that does not answer within its ten seconds denies."""
    with pytest.raises(StatusError, match=r"webhook.*deadline"):
        await cluster.create(PODS, a_pod("hanging", sleeper(), labels={"webhook-e2e-test": "wait-forever"}))
    with pytest.raises(NotFound):
        await cluster.get(PODS, "hanging")


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]"
)
async def test_attaching_is_denied(cluster: Cluster) -> None:
    server = await serve(cluster)
    hook = server.hook("deny-attaching-pod.k8s.io", "/pods/attach", rules("pods/attach", on="CONNECT"))
    async with server.registered(VALIDATING, hook):
        await cluster.start(a_pod("to-be-attached-pod", sleeper(name="container1")))
        told = await cluster.kubectl("attach", "to-be-attached-pod", "-i", "-c=container1", stdin="x", check=False)
        assert "attaching to pod 'to-be-attached-pod' is not allowed" in told


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion [Conformance]"
)
async def test_custom_resources_are_denied(cluster: Cluster) -> None:
    server = await serve(cluster)
    async with served(cluster, definition()) as resource:
        rule = rules(resource.plural, on="CREATE UPDATE DELETE", group=resource.group)
        async with server.registered(VALIDATING, server.hook("deny-data.k8s.io", "/data", rule)):
            with pytest.raises(StatusError, match="the custom resource contains unwanted data"):
                await cluster.create(resource, _named("cr-1") | _DISALLOWED)
            await cluster.create(resource, _named("cr-2", data={"webhook-e2e-test": "webhook-nondeletable"}))
            with pytest.raises(StatusError, match="the custom resource contains unwanted data"):
                await replace(cluster, resource, "cr-2", _set("webhook-disallow"))
            with pytest.raises(StatusError, match="cannot be deleted because it contains unwanted key and value"):
                await cluster.client.delete(resource, "cr-2", cluster.namespace)
            await replace(cluster, resource, "cr-2", _set("webhook-allow"))
            await cluster.delete(resource, "cr-2")


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook [Conformance]"
)
async def test_webhook_that_cannot_be_called_denies(cluster: Cluster) -> None:
    server = await serve(cluster)
    async with cluster.anothernamespace(**{"fail-closed-webhook": cluster.namespace}) as another:
        selected = {"namespaceSelector": {"matchLabels": {"fail-closed-webhook": cluster.namespace}}}
        closed = server.hook("fail-closed.k8s.io", "/configmaps", rules("configmaps"), failurePolicy="Fail", **selected)
        closed["clientConfig"].pop("caBundle")
        async with server.registered(VALIDATING, closed):
            with pytest.raises(InternalError):
                await another.create(CONFIGMAPS, _named("foo"))


@requirement("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation [Conformance]")
async def test_definitions_are_denied(cluster: Cluster) -> None:
    server = await serve(cluster)
    ours = {"objectSelector": {"matchLabels": {"e2e-test": cluster.namespace}}}
    rule = rules("customresourcedefinitions", group="apiextensions.k8s.io", versions="*")
    async with server.registered(VALIDATING, server.hook("deny-crd.k8s.io", "/crd", rule, **ours)):
        crd = definition()
        crd["metadata"]["labels"] = {"e2e-test": cluster.namespace, "webhook-e2e-test": "webhook-disallow"}
        with pytest.raises(StatusError, match="the crd contains unwanted label"):
            await cluster.create(CUSTOMRESOURCEDEFINITIONS, crd)


@requirement("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout [Conformance]")
async def test_timeout_is_honoured(cluster: Cluster) -> None:
    server = await serve(cluster)

    async def created_with(policy: str, seconds: int | None) -> None:
        name = f"slow-{policy}-{seconds}".lower()
        ours = {"objectSelector": {"matchLabels": {"slow": name}}, "failurePolicy": policy}
        told = {} if seconds is None else {"timeoutSeconds": seconds}
        hook = server.hook("slow.k8s.io", "/always-allow-delay-5s", rules("configmaps"), **ours, **told)
        async with server.registered(VALIDATING, hook, name=f"{cluster.namespace}-{name}"):
            await cluster.create(CONFIGMAPS, {"metadata": {"name": name, "labels": {"slow": name}}})

    async def fails() -> None:
        with pytest.raises(StatusError, match=r"/always-allow-delay-5s\?timeout=1s") as failed:
            await created_with("Fail", 1)
        assert "context deadline exceeded" in failed.value.message or "timeout" in failed.value.message

    await asyncio.gather(fails(), created_with("Ignore", 1), created_with("Ignore", 10), created_with("Fail", None))


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects [Conformance]"
)
@pytest.mark.serial
async def test_webhooks_are_not_asked_about_configurations_of_webhooks(cluster: Cluster) -> None:
    server = await serve(cluster)
    kinds = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
    group: dict[str, Any] = {"group": "admissionregistration.k8s.io", "versions": "*"}
    ours = {"objectSelector": {"matchLabels": {"e2e-test": cluster.namespace}}}
    for everywhere in ({"namespaceSelector": server.here}, ours):
        blocks = server.hook("deny-deletions.k8s.io", "/always-deny", rules(*kinds, on="DELETE", **group), **everywhere)
        labels = server.hook("add-label.k8s.io", "/add-label", rules(*kinds, on="CREATE", **group), **everywhere)
        async with server.registered(VALIDATING, blocks), server.registered(MUTATING, labels):
            for resource in (VALIDATING, MUTATING):
                dummy = server.hook("dummy.k8s.io", "", rules("invalid"), failurePolicy="Ignore")
                dummy["clientConfig"].pop("caBundle")
                metadata = {"name": f"{cluster.namespace}-dummy", "labels": {"e2e-test": cluster.namespace}}
                made = await cluster.create(resource, {"metadata": metadata, "webhooks": [dummy]})
                assert made["metadata"]["labels"] == {"e2e-test": cluster.namespace}
                await cluster.delete(resource, made["metadata"]["name"])
