"""What kubectl's commands do to pods and controllers, and what they tell."""

from __future__ import annotations

import json
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from cluster import BUSYBOX, ECHO, Cluster, eventually, has_condition, requirement, sleeper
from newest_kubectl import manifest, proxy

from machinery.api.catalogue import ENDPOINTS, NODES, PODS, SERVICES
from machinery.api.meta import Object, name_of

pytest_plugins = ["cluster_fixture", "newest_kubectl_fixture"]

LABELS = {"app": "agnhost", "role": "primary"}
PRIMARY = "agnhost-primary"


async def start_primary(newest: Cluster) -> str:
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
    await newest.kubectl("create", "-f", "-", stdin=text)

    async def running() -> str:
        pods = (await newest.client.list(PODS, newest.namespace, label_selector="app=agnhost")).items
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
async def test_api_versions(newest: Cluster) -> None:
    assert "v1" in (await newest.kubectl("api-versions")).splitlines()


@requirement("[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info [Conformance]")  # fmt: skip
async def test_cluster_info(newest: Cluster) -> None:
    said = await newest.kubectl("cluster-info")
    assert "Kubernetes control plane" in said
    assert "is running at" in said


@requirement("[sig-cli] Kubectl client Kubectl version should check is all data is printed [Conformance]")
async def test_version(newest: Cluster) -> None:
    said = await newest.kubectl("version")
    for item in ("Client Version: ", "Server Version: "):
        assert re.search(item + r"v\d\.\d+\.[\d\w\-\.\+]+", said), said
    told = json.loads(await newest.kubectl("version", "--output=json"))
    for version in (told["clientVersion"], told["serverVersion"]):
        assert re.fullmatch(r"\d", version["major"])
        assert re.fullmatch(r"\d+\+?", version["minor"])
        assert re.fullmatch(r"[0-9a-f]+", version["gitCommit"])


@requirement("[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods [Conformance]")  # fmt: skip
async def test_describe(newest: Cluster) -> None:
    namespace = newest.namespace
    pod = await start_primary(newest)
    port = {"port": 6379, "targetPort": "agnhost-server"}
    service: Object = {"metadata": {"name": PRIMARY, "labels": LABELS}, "spec": {"ports": [port], "selector": LABELS}}
    await newest.kubectl("create", "-f", "-", stdin=manifest("v1", "Service", service))
    tells(
        await newest.kubectl("describe", "pod", pod),
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
        await newest.kubectl("describe", "rc", PRIMARY),
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
        await newest.kubectl("describe", "service", PRIMARY),
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
    node = name_of((await newest.client.list(NODES)).items[0])
    tells(
        await newest.kubectl("describe", "node", node),
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
        await newest.kubectl("describe", "namespace", namespace),
        ("Name:", namespace),
        ("Labels:",),
        ("Annotations:",),
        ("Status:", "Active"),
    )


@requirement("[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments [Conformance]")  # fmt: skip
async def test_diff(newest: Cluster) -> None:
    def deployment(image: str) -> str:
        labels = {"app": "httpd"}
        spec = {"containers": [{"name": "httpd", "image": image, "command": ["sleep", "10000"]}]}
        body = {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }
        return manifest("apps/v1", "Deployment", {"metadata": {"name": "httpd-deployment"}, "spec": body})

    await newest.kubectl("create", "-f", "-", stdin=deployment(ECHO))
    said = await newest.kubectl("diff", "-f", "-", stdin=deployment(BUSYBOX), check=False)
    assert re.search(rf"^-.*{re.escape(ECHO)}$", said, re.MULTILINE), said
    assert re.search(rf"^\+.*{re.escape(BUSYBOX)}$", said, re.MULTILINE), said
    await newest.kubectl("delete", "-f", "-", stdin=deployment(BUSYBOX))


@requirement("[sig-cli] Kubectl client Kubectl expose should create services for rc [Conformance]")
async def test_expose(newest: Cluster) -> None:
    pod = await start_primary(newest)

    async def exposed(name: str, port: int) -> None:
        async def endpoints() -> bool:
            subsets = (await newest.get(ENDPOINTS, name)).get("subsets") or ()
            found = [
                (address["targetRef"]["name"], [each["port"] for each in subset["ports"]])
                for subset in subsets
                for address in subset.get("addresses") or ()
            ]
            return found == [(pod, [6379])]

        service = await newest.object_that(SERVICES, name, lambda _: True, "made")
        await eventually(endpoints, f"the one endpoint of {name}")
        assert [(each["port"], each["targetPort"]) for each in service["spec"]["ports"]] == [(port, 6379)]

    await newest.kubectl("expose", "rc", PRIMARY, "--name=rm2", "--port=1234", "--target-port=6379")
    await exposed("rm2", 1234)
    await newest.kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    await exposed("rm3", 2345)


@requirement("[sig-cli] Kubectl client Kubectl label should update the label on a resource [Conformance]")
async def test_label(newest: Cluster) -> None:
    await newest.kubectl("run", "paused", f"--image={BUSYBOX}", "--", "sleep", "100000")
    await newest.pod_that("paused", lambda now: has_condition(now, "Ready"), "ready")
    await newest.kubectl("label", "pods", "paused", "testing-label=testing-label-value")
    assert "testing-label-value" in await newest.kubectl("get", "pod", "paused", "-L", "testing-label")
    assert "paused" in await newest.kubectl("get", "pod", "-l", "testing-label=testing-label-value")
    await newest.kubectl("label", "pods", "paused", "testing-label-")
    assert "testing-label-value" not in await newest.kubectl("get", "pod", "paused", "-L", "testing-label")
    await newest.kubectl("delete", "pod", "paused", "--grace-period=0", "--force")


@requirement("[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc [Conformance]")
async def test_patch(newest: Cluster) -> None:
    pod = await start_primary(newest)
    await newest.kubectl("patch", "pod", pod, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    pods = (await newest.client.list(PODS, newest.namespace, label_selector="app=agnhost")).items
    assert [each["metadata"]["annotations"].get("x") for each in pods] == ["y"]


async def run_server(newest: Cluster, *options: str) -> str:
    name = f"e2e-test-httpd-{secrets.token_hex(3)}"
    await newest.kubectl("run", name, f"--image={ECHO}", f"--labels=run={name}", *options)
    return name


async def image_of(newest: Cluster, pod: str) -> list[str]:
    return [each["image"] for each in (await newest.get(PODS, pod))["spec"]["containers"]]


@requirement("[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image [Conformance]")
async def test_replace(newest: Cluster) -> None:
    name = await run_server(newest)
    await newest.pod_that(name, lambda now: now["status"].get("phase") == "Running", "runs")
    text = await newest.kubectl("get", "pod", name, "-o", "json")
    assert name in text
    await newest.kubectl("replace", "-f", "-", stdin=text.replace(ECHO, BUSYBOX, 1))
    assert await image_of(newest, name) == [BUSYBOX]
    await newest.kubectl("delete", "pods", name, "--now")


@requirement(
    "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never [Conformance]"
)
async def test_run(newest: Cluster) -> None:
    name = await run_server(newest, "--restart=Never", "--pod-running-timeout=2m0s")
    assert await image_of(newest, name) == [ECHO]
    assert (await newest.get(PODS, name))["spec"]["restartPolicy"] == "Never"
    await newest.kubectl("delete", "pods", name, "--now")


@requirement(
    "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods [Conformance]"
)
async def test_dry_run(newest: Cluster) -> None:
    name = await run_server(newest)
    patch = json.dumps({"spec": {"containers": [{"name": name, "image": BUSYBOX}]}})
    await newest.kubectl("patch", "pod", name, "-p", patch, "--dry-run=server")
    assert await image_of(newest, name) == [ECHO]
    await newest.kubectl("delete", "pods", name, "--now")


@requirement("[sig-cli] Kubectl client Proxy server should support proxy with --port 0 [Conformance]")
async def test_proxy_on_a_port(newest: Cluster) -> None:
    async with proxy(newest, "--port=0", "--disable-filter") as said, aiohttp.ClientSession() as session:
        found = re.fullmatch(r"Starting to serve on 127\.0\.0\.1:(\d+)\n", said)
        assert found, said
        async with session.get(f"http://127.0.0.1:{found[1]}/api/") as answer:
            assert (await answer.json())["versions"] == ["v1"]


@requirement("[sig-cli] Kubectl client Proxy server should support --unix-socket=/path [Conformance]")
async def test_proxy_on_a_socket(newest: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "test"
    async with (
        proxy(newest, f"--unix-socket={path}") as said,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        assert str(path) in said
        async with session.get("http://localhost/api") as answer:
            assert (await answer.json())["versions"] == ["v1"]


@requirement("[sig-cli] Kubectl logs logs should be able to retrieve and filter logs [Conformance]")
async def test_logs(newest: Cluster) -> None:
    name = "logs-generator"
    script = "i=0; while [ $i -lt 100 ]; do echo $i GET /api/v1/namespaces/kube-system/pods/p$i 200; i=$((i+1)); sleep 0.2; done"
    await newest.kubectl("run", name, f"--image={BUSYBOX}", "--restart=Never", "--pod-running-timeout=2m0s", "--", "sh", "-c", script)  # fmt: skip
    await newest.pod_that(name, lambda now: now["status"].get("phase") in ("Running", "Succeeded"), "runs")

    async def found() -> bool:
        return "/api/v1/namespaces/kube-system" in await newest.kubectl("logs", name, name)

    await eventually(found, "what it generates in its log")
    assert len((await newest.kubectl("logs", name, name, "--tail=1")).splitlines()) == 1
    assert await newest.kubectl("logs", name, name, "--limit-bytes=1") == "0"
    (line,) = (await newest.kubectl("logs", name, name, "--tail=1", "--timestamps")).splitlines()
    stamp, *words = line.split(" ")
    assert words[1:2] == ["GET"]
    first = parse(stamp)

    async def older() -> bool:
        return time.time() - first > 2.5

    await eventually(older, "lines older than what is asked for")
    asked = time.time()
    recent = (await newest.kubectl("logs", name, name, "--since=1s", "--timestamps")).splitlines()
    everything = (await newest.kubectl("logs", name, name, "--since=24h")).splitlines()
    assert 0 < len(recent) < len(everything)
    assert all(parse(each.split(" ")[0]) >= asked - 1 for each in recent)
    await newest.kubectl("delete", "pod", name, "--now")


def parse(stamp: str) -> float:
    """Seconds of a time in RFC 3339 with nanoseconds."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
