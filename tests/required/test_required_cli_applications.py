"""Applications of several pods, started, scaled and stopped by kubectl."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster import Cluster, eventually, requirement, shell
from components import python
from manifests import manifest

from machinery.api.catalogue import PODS, SERVICES
from machinery.api.meta import Object
from machinery.errors import StatusError

pytest_plugins = ["cluster_fixture"]
pytestmark = pytest.mark.timeout(300)

GUESTBOOK = (Path(__file__).parent / "guestbook.py").read_text()
SERVES = shell(
    'mkdir /www && echo \'{"image": "nautilus.jpg"}\' > /www/data.json && exec httpd -f -p 80 -h /www',
    name="update-demo",
    ports=[{"containerPort": 80, "protocol": "TCP"}],
)


def demo() -> str:
    labels = {"name": "update-demo", "version": "nautilus"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [SERVES]},
    }
    spec = {"replicas": 2, "selector": labels, "template": template}
    return manifest("v1", "ReplicationController", {"metadata": {"name": "update-demo-nautilus"}, "spec": spec})


async def runs(cluster: Cluster, replicas: int) -> None:
    """So many pods run with the right image, and serve their data through the API server."""
    image = SERVES["image"]
    names = "--template={{range .items}}{{.metadata.name}} {{end}}"
    state = (
        '--template={{if (exists . "status" "containerStatuses")}}{{range .status.containerStatuses}}'
        '{{if (and (eq .name "update-demo") (exists . "state" "running"))}}true{{end}}{{end}}{{end}}'
    )
    of_image = (
        '--template={{if (exists . "spec" "containers")}}{{range .spec.containers}}'
        '{{if eq .name "update-demo"}}{{.image}}{{end}}{{end}}{{end}}'
    )

    async def as_wanted() -> bool:
        pods = (await cluster.kubectl("get", "pods", "-o", "template", names, "-l", "name=update-demo")).split()
        if len(pods) != replicas:
            return False
        for pod in pods:
            if await cluster.kubectl("get", "pods", pod, "-o", "template", state) != "true":
                return False
            assert await cluster.kubectl("get", "pods", pod, "-o", "template", of_image) == image
            path = PODS.path(cluster.namespace, pod, "proxy/data.json")
            try:
                told = await cluster.client.request("GET", path)
            except StatusError:  # it runs, and does not yet listen
                return False
            assert told == {"image": "nautilus.jpg"}
        return True

    await eventually(as_wanted, f"{replicas} pods of the demonstration", 120)


async def stop(cluster: Cluster, text: str, *selectors: str) -> None:
    await cluster.kubectl("delete", "--grace-period=0", "--force", "-f", "-", stdin=text)
    left = '--template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\\n"}}{{end}}{{end}}'
    for selector in selectors:
        assert await cluster.kubectl("get", "rc,svc", "-l", selector, "--no-headers") == ""

        async def gone() -> bool:
            return not await cluster.kubectl("get", "pods", "-l", selector, "-o", "go-template", left)  # noqa: B023

        await eventually(gone, "the pods leave")


@requirement("[sig-cli] Kubectl client Update Demo should create and stop a replication controller [Conformance]")
async def test_a_controller_is_started_and_stopped(cluster: Cluster) -> None:
    await cluster.kubectl("create", "-f", "-", stdin=demo())
    await runs(cluster, 2)
    await stop(cluster, demo(), "name=update-demo")


@requirement("[sig-cli] Kubectl client Update Demo should scale a replication controller [Conformance]")
async def test_a_controller_is_scaled(cluster: Cluster) -> None:
    await cluster.kubectl("create", "-f", "-", stdin=demo())
    await runs(cluster, 2)
    for replicas in (1, 2):
        await cluster.kubectl("scale", "rc", "update-demo-nautilus", f"--replicas={replicas}", "--timeout=5m")
        await runs(cluster, replicas)
    await stop(cluster, demo(), "name=update-demo")


async def guestbook(cluster: Cluster) -> list[str]:
    """The manifests of three services, and of the pods of each."""
    address = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    texts = []
    for name, role, replicas, port in (
        ("agnhost-replica", "replica", 2, 6379),
        ("agnhost-primary", "primary", 1, 6379),
        ("frontend", "frontend", 3, 80),
    ):
        labels = {"app": "guestbook" if role == "frontend" else "agnhost", "tier": role}
        service: Object = {"ports": [{"port": port, "targetPort": 8080}], "selector": labels}
        texts.append(manifest("v1", "Service", {"metadata": {"name": name, "labels": labels}, "spec": service}))
        serves = await python(
            cluster,
            GUESTBOOK,
            env=[{"name": "ROLE", "value": role}, address],
            ports=[{"containerPort": 8080}],
            resources={"requests": {"cpu": "100m", "memory": "100Mi"}},
        )
        template = {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [serves]},
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        texts.append(manifest("apps/v1", "Deployment", {"metadata": {"name": name}, "spec": spec}))
    return texts


@requirement(
    "[sig-cli] Kubectl client Guestbook application should create and stop a working application [Conformance]"
)
async def test_an_application_of_three_tiers(cluster: Cluster) -> None:
    texts = await guestbook(cluster)
    for text in texts:
        await cluster.kubectl("create", "-f", "-", stdin=text)

    async def answers(command: str, value: str, wanted: Object) -> None:
        async def does() -> bool:
            path = SERVICES.path(cluster.namespace, "frontend", "proxy/guestbook")
            query = {"cmd": command, "key": "messages", "value": value}
            try:
                return await cluster.client.request("GET", path, query=query) == wanted
            except StatusError:
                return False

        await eventually(does, f"the frontend's answer {wanted}", 180)

    await answers("get", "", {"data": ""})
    await answers("set", "TestEntry", {"message": "Updated"})
    await answers("get", "", {"data": "TestEntry"})
    for text in texts:
        await stop(cluster, text)
    for selector in ("app=agnhost", "app=guestbook"):
        assert await cluster.kubectl("get", "rc,svc,deploy", "-l", selector, "--no-headers") == ""
