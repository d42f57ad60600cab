"""The official Python client (`kubernetes`), used as its users do. Arguments: NAMESPACE."""

from __future__ import annotations

import sys
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

namespace = sys.argv[1]
config.load_kube_config()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()

# typed objects, there and back
labels = {"app": "web"}
deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="web"),
    spec=client.V1DeploymentSpec(
        replicas=2,
        selector=client.V1LabelSelector(match_labels=labels),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels=labels),
            spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="web:1")]),
        ),
    ),
)
apps.create_namespaced_deployment(namespace, deployment)
for event in watch.Watch().stream(apps.list_namespaced_deployment, namespace, timeout_seconds=30):
    if event["object"].status.available_replicas == 2:
        break
else:
    raise AssertionError("the deployment never became available")
pods = core.list_namespaced_pod(namespace, label_selector="app=web").items
assert len(pods) == 2
assert all(pod.status.phase == "Running" for pod in pods)
apps.patch_namespaced_deployment(
    "web", namespace, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}
)
apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 1}})
assert apps.read_namespaced_deployment_scale("web", namespace).spec.replicas == 1

# pages
for i in range(7):
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{i}")))
first = core.list_namespaced_config_map(namespace, limit=3)
second = core.list_namespaced_config_map(namespace, limit=30, _continue=first.metadata._continue)
assert len(first.items) + len(second.items) == 8  # and kube-root-ca.crt
assert first.metadata.remaining_item_count == 5

# conflicts and errors as exceptions
one = core.read_namespaced_config_map("page-0", namespace)
one.data = {"a": "b"}
core.replace_namespaced_config_map("page-0", namespace, one)
try:
    core.replace_namespaced_config_map("page-0", namespace, one)
    raise AssertionError("a stale write went through")
except ApiException as exc:
    assert exc.status == 409
try:
    core.create_namespaced_pod(namespace, {"metadata": {"name": "Bad Name"}, "spec": {"containers": []}})
    raise AssertionError("a bad pod went through")
except ApiException as exc:
    assert exc.status == 422
    assert "spec.containers: Required value" in exc.body

# a watch with a resource version and an end
collected = []
version = core.list_namespaced_secret(namespace).metadata.resource_version
core.create_namespaced_secret(namespace, {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
core.delete_namespaced_secret("s", namespace)
watcher = watch.Watch()
for event in watcher.stream(core.list_namespaced_secret, namespace, resource_version=version, timeout_seconds=20):
    collected.append((event["type"], event["object"].metadata.name))
    if event["type"] == "DELETED":
        watcher.stop()
assert collected == [("ADDED", "s"), ("DELETED", "s")], collected

# jobs
job = client.V1Job(
    metadata=client.V1ObjectMeta(name="one"),
    spec=client.V1JobSpec(
        template=client.V1PodTemplateSpec(
            spec=client.V1PodSpec(restart_policy="Never", containers=[client.V1Container(name="c", image="x")])
        )
    ),
)
batch.create_namespaced_job(namespace, job)
for event in watch.Watch().stream(batch.list_namespaced_job, namespace, timeout_seconds=30):
    if event["object"].status.succeeded == 1:
        break
else:
    raise AssertionError("the job never completed")

# the dynamic client, with a custom resource and server-side apply
kinds = dynamic.DynamicClient(client.ApiClient())
definitions = kinds.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
plural = f"gadgets-{namespace}".replace("-", "")
definitions.create(
    body={
        "metadata": {"name": f"{plural}.official.example.com"},
        "spec": {
            "group": "official.example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": "Gadget"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}},
                                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                            },
                        }
                    },
                }
            ],
        },
    }
)
for event in definitions.watch(timeout=20):
    found = event["object"].to_dict()
    conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions") or ()}
    if found["metadata"]["name"].startswith(plural) and conditions.get("Established") == "True":
        break
kinds = dynamic.DynamicClient(client.ApiClient())
gadgets = kinds.resources.get(api_version="official.example.com/v1", kind="Gadget")
made = gadgets.create(
    namespace=namespace,
    body={"apiVersion": "official.example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {}},
)
assert made.spec.size == 3
gadgets.status.patch(
    namespace=namespace, name="g", body={"status": {"ready": True}}, content_type="application/merge-patch+json"
)
assert gadgets.get(namespace=namespace, name="g").status.ready is True
applied = gadgets.server_side_apply(
    namespace=namespace,
    name="g",
    field_manager="official",
    force_conflicts=True,
    body={"apiVersion": "official.example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 5}},
)
assert applied.spec.size == 5
gadgets.delete(namespace=namespace, name="g")
definitions.delete(name=f"{plural}.official.example.com")

# files of objects
service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
utils.create_from_dict(client.ApiClient(), service, namespace=namespace)
assert core.read_namespaced_service("web", namespace).spec.cluster_ip

# leader election
leads = threading.Event()
lock = LeaseLock("election", namespace, "me")
settings = electionconfig.Config(
    lock, lease_duration=3, renew_deadline=2, retry_period=1, onstarted_leading=leads.set, onstopped_leading=None
)
threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
assert leads.wait(20)
assert client.CoordinationV1Api().read_namespaced_lease("election", namespace).spec.holder_identity == "me"
print("official client: ok", flush=True)
