"""What kubectl's commands do to pods and controllers, and what they tell."""

from __future__ import annotations

import json
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from cluster import Cluster, eventually, has_condition, requirement, sleeper
from lab_images import BUSYBOX, ECHO
from manifests import manifest, proxy

from machinery.api.catalogue import ENDPOINTS, NODES, PODS, SERVICES
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture"]

LABELS = {"app": "agnhost", "role": "primary"}
PRIMARY = "agnhost-primary"


async def start_primary(cluster: Cluster) -> str:
    """A replication controller with one pod that runs; the pod's name."""
    template = {
        "metadata": {"labels": LABELS},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [sleeper(name=PRIMARY, ports=[{"name": "agnhost-server", "containerPort": 6379}])],
        },
    }
    spec = {"replicas": 1, "selector": LABELS, "template": template}
    text = manifest("v1", "ReplicationController", {"metadata": {"name": PRIMARY, "labels": LABELS}, "spec": spec})
    await cluster.kubectl("create", "-f", "-", stdin=text)

    async def running() -> str:
        pods = (await cluster.client.list(PODS, cluster.namespace, label_selector="app=agnhost")).items
        return name_of(pods[0]) if len(pods) == 1 and has_condition(pods[0], "Ready") else ""

    return str(await eventually(running, "the controller's pod"))


def tells(said: str, *lines: tuple[str, ...]) -> None:
    """Lines that have these words follow each other, with others between them."""
    rest = iter(said.splitlines())
    for words in lines:
        assert any(all(word in line for word in words) for line in rest), f"{words} not where it should be in\n{said}"


@requirement(
    "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions [Conformance]"
)
async def test_api_versions(cluster: Cluster) -> None:
    assert "v1" in (await cluster.kubectl("api-versions")).splitlines()


@requirement("[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info [Conformance]")  # fmt: skip
async def test_cluster_info(cluster: Cluster) -> None:
    said = await cluster.kubectl("cluster-info")
    assert "Kubernetes control plane" in said
    assert "is running at" in said


@requirement("[sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]")
async def test_version(cluster: Cluster) -> None:
    said = await cluster.kubectl("version")
    for item in ("Client Version: ", "Server Version: "):
        assert re.search(item + r"v\d\.\d+\.[\d\w\-\.\+]+", said), said
    told = json.loads(await cluster.kubectl("version", "--output=json"))
    for version in (told["clientVersion"], told["serverVersion"]):
        assert re.fullmatch(r"\d", version["major"])
        assert re.fullmatch(r"\d+\+?", version["minor"])
        assert re.fullmatch(r"[0-9a-f]+", version["gitCommit"])


@requirement("[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods [Conformance]")  # fmt: skip
async def test_describe(cluster: Cluster) -> None:
    namespace = cluster.namespace
    pod = await start_primary(cluster)
    port = {"port": 6379, "targetPort": "agnhost-server"}
    service: Object = {"metadata": {"name": PRIMARY, "labels": LABELS}, "spec": {"ports": [port], "selector": LABELS}}
    await cluster.kubectl("create", "-f", "-", stdin=manifest("v1", "Service", service))
    tells(
        await cluster.kubectl("describe", "pod", pod),
        ("Name:", "agnhost-primary-"),
        ("Namespace:", namespace),
        ("Node:",),
        ("Labels:", "app=agnhost"),
        ("role=primary",),
        ("Annotations:",),
        ("Status:", "Running"),
        ("IP:",),
        ("Controlled By:", "ReplicationController/agnhost-primary"),
        ("Image:", BUSYBOX),
        ("State:", "Running"),
        ("QoS Class:", "BestEffort"),
    )
    tells(
        await cluster.kubectl("describe", "rc", PRIMARY),
        ("Name:", PRIMARY),
        ("Namespace:", namespace),
        ("Selector:", "app=agnhost,role=primary"),
        ("Labels:", "app=agnhost"),
        ("role=primary",),
        ("Annotations:",),
        ("Replicas:", "1 current", "1 desired"),
        ("Pods Status:", "1 Running", "0 Waiting", "0 Succeeded", "0 Failed"),
        ("Pod Template:",),
        ("Image:", BUSYBOX),
        ("Events:",),
    )
    tells(
        await cluster.kubectl("describe", "service", PRIMARY),
        ("Name:", PRIMARY),
        ("Namespace:", namespace),
        ("Labels:", "app=agnhost"),
        ("role=primary",),
        ("Annotations:",),
        ("Selector:", "app=agnhost", "role=primary"),
        ("Type:", "ClusterIP"),
        ("IP:",),
        ("Port:", "<unset>", "6379/TCP"),
        ("Endpoints:",),
        ("Session Affinity:", "None"),
    )
    node = name_of((await cluster.client.list(NODES)).items[0])
    tells(
        await cluster.kubectl("describe", "node", node),
        ("Name:", node),
        ("Labels:",),
        ("Annotations:",),
        ("CreationTimestamp:",),
        ("Conditions:",),
        ("Type", "Status", "LastHeartbeatTime", "LastTransitionTime", "Reason", "Message"),
        ("Addresses:",),
        ("Capacity:",),
        ("Kernel Version:",),
        ("OS Image:",),
        ("Container Runtime Version:",),
        ("Kubelet Version:",),
        ("Pods:",),
    )
    tells(
        await cluster.kubectl("describe", "namespace", namespace),
        ("Name:", namespace),
        ("Labels:",),
        ("Annotations:",),
        ("Status:", "Active"),
    )


@requirement("[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]")  # fmt: skip
async def test_diff(cluster: Cluster) -> None:
    def deployment(image: str) -> str:
        labels = {"app": "httpd"}
        spec = {"containers": [{"name": "httpd", "image": image, "command": ["sleep", "10000"]}]}
        body = {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }
        return manifest("apps/v1", "Deployment", {"metadata": {"name": "httpd-deployment"}, "spec": body})

    await cluster.kubectl("create", "-f", "-", stdin=deployment(ECHO))
    said = await cluster.kubectl("diff", "-f", "-", stdin=deployment(BUSYBOX), check=False)
    assert re.search(rf"^-.*{re.escape(ECHO)}$", said, re.MULTILINE), said
    assert re.search(rf"^\+.*{re.escape(BUSYBOX)}$", said, re.MULTILINE), said
    await cluster.kubectl("delete", "-f", "-", stdin=deployment(BUSYBOX))


@requirement("[sig-cli] Kubectl client Kubectl expose should create services for rc [Conformance]")
async def test_expose(cluster: Cluster) -> None:
    pod = await start_primary(cluster)

    async def exposed(name: str, port: int) -> None:
        def of_the_pod(endpoints: Object) -> bool:
            found = [
                (address["targetRef"]["name"], [each["port"] for each in subset["ports"]])
                for subset in endpoints.get("subsets") or ()
                for address in subset.get("addresses") or ()
            ]
            return found == [(pod, [6379])]

        service = await cluster.object_that(SERVICES, name, lambda _: True, "made")
        await cluster.object_that(ENDPOINTS, name, of_the_pod, "of the one pod")
        assert [(each["port"], each["targetPort"]) for each in service["spec"]["ports"]] == [(port, 6379)]

    await cluster.kubectl("expose", "rc", PRIMARY, "--name=rm2", "--port=1234", "--target-port=6379")
    await exposed("rm2", 1234)
    await cluster.kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    await exposed("rm3", 2345)


@requirement("[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]")
async def test_label(cluster: Cluster) -> None:
    await cluster.kubectl("run", "paused", f"--image={BUSYBOX}", "--", "sleep", "100000")
    await cluster.pod_that("paused", lambda now: has_condition(now, "Ready"), "ready")
    await cluster.kubectl("label", "pods", "paused", "testing-label=testing-label-value")
    assert "testing-label-value" in await cluster.kubectl("get", "pod", "paused", "-L", "testing-label")
    assert "paused" in await cluster.kubectl("get", "pod", "-l", "testing-label=testing-label-value")
    await cluster.kubectl("label", "pods", "paused", "testing-label-")
    assert "testing-label-value" not in await cluster.kubectl("get", "pod", "paused", "-L", "testing-label")
    await cluster.kubectl("delete", "pod", "paused", "--grace-period=0", "--force")


@requirement("[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc [Conformance]")
async def test_patch(cluster: Cluster) -> None:
    pod = await start_primary(cluster)
    await cluster.kubectl("patch", "pod", pod, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    pods = (await cluster.client.list(PODS, cluster.namespace, label_selector="app=agnhost")).items
    assert [each["metadata"]["annotations"].get("x") for each in pods] == ["y"]


async def run_server(cluster: Cluster, *options: str) -> str:
    name = f"e2e-test-httpd-{secrets.token_hex(3)}"
    await cluster.kubectl("run", name, f"--image={ECHO}", f"--labels=run={name}", *options)
    return name


async def image_of(cluster: Cluster, pod: str) -> list[str]:
    return [each["image"] for each in (await cluster.get(PODS, pod))["spec"]["containers"]]


@requirement("[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image [Conformance]")
async def test_replace(cluster: Cluster) -> None:
    name = await run_server(cluster)
    await cluster.pod_that(name, lambda now: now["status"].get("phase") == "Running", "runs")
    text = await cluster.kubectl("get", "pod", name, "-o", "json")
    assert name in text
    await cluster.kubectl("replace", "-f", "-", stdin=text.replace(ECHO, BUSYBOX, 1))
    assert await image_of(cluster, name) == [BUSYBOX]
    await cluster.kubectl("delete", "pods", name, "--now")


@requirement(
    "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never [Conformance]"
)
async def test_run(cluster: Cluster) -> None:
    name = await run_server(cluster, "--restart=Never", "--pod-running-timeout=2m0s")
    assert await image_of(cluster, name) == [ECHO]
    assert (await cluster.get(PODS, name))["spec"]["restartPolicy"] == "Never"
    await cluster.kubectl("delete", "pods", name, "--now")


@requirement(
    "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods [Conformance]"
)
async def test_dry_run(cluster: Cluster) -> None:
    name = await run_server(cluster)
    patch = json.dumps({"spec": {"containers": [{"name": name, "image": BUSYBOX}]}})
    await cluster.kubectl("patch", "pod", name, "-p", patch, "--dry-run=server")
    assert await image_of(cluster, name) == [ECHO]
    await cluster.kubectl("delete", "pods", name, "--now")


@requirement("[sig-cli] Kubectl client Proxy server should support proxy with --port 0 [Conformance]")
async def test_proxy_on_a_port(cluster: Cluster) -> None:
    async with proxy(cluster, "--port=0", "--disable-filter") as said, aiohttp.ClientSession() as session:
        found = re.fullmatch(r"Starting to serve on 127\.0\.0\.1:(\d+)\n", said)
        assert found, said
        async with session.get(f"http://127.0.0.1:{found[1]}/api/") as answer:
            assert (await answer.json())["versions"] == ["v1"]


@requirement("[sig-cli] Kubectl client Proxy server should support --unix-socket=/path [Conformance]")
async def test_proxy_on_a_socket(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "test"
    async with (
        proxy(cluster, f"--unix-socket={path}") as said,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        assert str(path) in said
        async with session.get("http://localhost/api") as answer:
            assert (await answer.json())["versions"] == ["v1"]


@requirement("[sig-cli] Kubectl logs logs should be able to retrieve and filter logs [Conformance]")
async def test_logs(cluster: Cluster) -> None:
    name = "logs-generator"
    script = "i=0; while [ $i -lt 100 ]; do echo $i GET /api/v1/namespaces/kube-system/pods/p$i 200; i=$((i+1)); sleep 0.2; done"
    await cluster.kubectl("run", name, f"--image={BUSYBOX}", "--restart=Never", "--pod-running-timeout=2m0s", "--", "sh", "-c", script)  # fmt: skip
    await cluster.pod_that(name, lambda now: now["status"].get("phase") in ("Running", "Succeeded"), "runs")

    async def found() -> bool:
        return "/api/v1/namespaces/kube-system" in await cluster.kubectl("logs", name, name)

    await eventually(found, "what it generates in its log")
    assert len((await cluster.kubectl("logs", name, name, "--tail=1")).splitlines()) == 1
    assert await cluster.kubectl("logs", name, name, "--limit-bytes=1") == "0"
    (line,) = (await cluster.kubectl("logs", name, name, "--tail=1", "--timestamps")).splitlines()
    stamp, *words = line.split(" ")
    assert words[1:2] == ["GET"]
    first = parse(stamp)

    async def older() -> bool:
        return time.time() - first > 2.5

    await eventually(older, "lines older than what is asked for")
    asked = time.time()
    recent = (await cluster.kubectl("logs", name, name, "--since=1s", "--timestamps")).splitlines()
    everything = (await cluster.kubectl("logs", name, name, "--since=24h")).splitlines()
    assert 0 < len(recent) < len(everything)
    assert all(parse(each.split(" ")[0]) >= asked - 1 for each in recent)
    await cluster.kubectl("delete", "pod", name, "--now")


def parse(stamp: str) -> float:
    """Seconds of a time in RFC 3339 with nanoseconds."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
