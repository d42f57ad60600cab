"""lightkube, used as its users do. Arguments: NAMESPACE."""

from __future__ import annotations

import asyncio
import sys

from lightkube import ApiError, AsyncClient, Client, codecs
from lightkube.generic_resource import async_load_in_cluster_generic_resources, create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
from lightkube.types import PatchType

namespace = sys.argv[1]
client = Client(namespace=namespace, field_manager="lightkube")

made = client.create(ConfigMap(metadata=ObjectMeta(name="c"), data={"a": "1"}))
made.data["a"] = "2"
assert client.replace(made).data["a"] == "2"
applied = client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="c"), data={"b": "3"}))
assert applied.data == {"a": "2", "b": "3"}
try:
    client.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="c"), data={"a": "9"}))
    raise AssertionError("no conflict")
except ApiError as exc:
    assert exc.status.code == 409
client.patch(ConfigMap, "c", {"metadata": {"labels": {"x": "y"}}}, patch_type=PatchType.MERGE)
assert [c.metadata.name for c in client.list(ConfigMap, labels={"x": "y"})] == ["c"]
assert len(list(client.list(Node, chunk_size=1))) >= 1

text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: "web:1"}]}
"""
for obj in codecs.load_all_yaml(text):
    client.create(obj, namespace=namespace)
client.wait(Deployment, "web", for_conditions=["Available"])
scale = client.get(Deployment.Scale, "web")
scale.spec.replicas = 1
client.replace(scale, "web")
for _event, _ in client.watch(Deployment, fields={"metadata.name": "web"}, server_timeout=20):
    if client.get(Deployment, "web").status.readyReplicas == 1:
        break


async def many() -> None:
    other = AsyncClient(namespace=namespace)
    await async_load_in_cluster_generic_resources(other)
    names = [pod.metadata.name async for pod in other.list(Pod, labels={"app": "web"})]
    assert names
    await other.delete(Deployment, "web")
    await other.close()


asyncio.run(many())
widgets = create_namespaced_resource("none.example.com", "v1", "Widget", "widgets")
try:
    list(client.list(widgets))
    raise AssertionError("listed what is not served")
except ApiError as exc:
    assert exc.status.code == 404
except Exception as exc:
    assert "404" in str(exc), exc
print("lightkube: ok", flush=True)
