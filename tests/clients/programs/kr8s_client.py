"""kr8s, used as its users do. Arguments: NAMESPACE."""

from __future__ import annotations

import sys

import kr8s
from kr8s.objects import ConfigMap, Deployment, Pod, Service

namespace = sys.argv[1]
api = kr8s.api(namespace=namespace)
assert api.version()["minor"].startswith("36")
assert api.whoami() == "kubernetes-admin"

pod = Pod(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": namespace, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    }
)
pod.create()
pod.wait("condition=Ready", timeout=20)
assert pod.ready()
pod.label({"more": "yes"})
pod.annotate(note="x")
assert [p.name for p in kr8s.get("pods", namespace=namespace, label_selector={"more": "yes"})] == ["web"]

config = ConfigMap({"metadata": {"name": "c", "namespace": namespace}, "data": {"a": "b"}})
config.create()
config.patch({"data": {"a": "c"}})
config.refresh()
assert config.data["a"] == "c"

deployment = Deployment(
    {
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "dep"}},
            "template": {
                "metadata": {"labels": {"app": "dep"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    }
)
deployment.create()
deployment.scale(3)
deployment.wait("condition=Available", timeout=20)
while not deployment.ready():  # each turn asks the server
    deployment.refresh()
assert len(deployment.pods()) == 3

service = Service(
    {"metadata": {"name": "web", "namespace": namespace}, "spec": {"ports": [{"port": 80}], "selector": {"app": "dep"}}}
)
service.create()
assert service.exists()
assert {kind["kind"] for kind in api.api_resources()} >= {"Pod", "Deployment", "CustomResourceDefinition"}
for event, obj in api.watch("configmaps", namespace=namespace):
    if obj.name == "c":
        assert event == "ADDED"
        break
pod.delete()
pod.wait("delete", timeout=20)
assert not pod.exists()
print("kr8s: ok", flush=True)
