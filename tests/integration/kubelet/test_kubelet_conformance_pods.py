"""What Kubernetes' conformance suite requires of pods ([sig-node]): each requirement by its name."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from kubelet_node import NODE_IP, TestNode, box, container_status, eventually, is_ready, running_node, shell

from machinery.api import meta
from machinery.api.catalogue import CONFIGMAPS, PODS, SECRETS
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        data = {"data_1": "value-1", "data_2": "value-2"}
        secret = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        for kind, values in ((CONFIGMAPS, data), (SECRETS, secret)):
            metadata = {"name": "source", "namespace": made.namespace}
            await made.client.create(
                kind, {"apiVersion": "v1", "kind": kind.kind, "metadata": metadata, "data": values}
            )
        yield made


@dataclass(frozen=True)
class Case:
    """A container that runs to its end, and what it prints."""

    requirement: str
    container: Object
    output: str
    spec: Object = field(default_factory=dict)
    phase: str = "Succeeded"
    only: str = ""  # look at the lines with this alone


def _env(name: str, **source: Any) -> Object:
    return {"name": name, "valueFrom": source}


def _field(name: str, path: str) -> Object:
    return _env(name, fieldRef={"fieldPath": path})


_SIZES = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
_SIZE_ENV = [
    _env(name, resourceFieldRef={"resource": resource})
    for name, resource in (("A", "limits.cpu"), ("B", "requests.cpu"), ("C", "limits.memory"), ("D", "requests.memory"))
]
_PREFIXES = ["", "p-", "1-", "#_", ".x."]
_BY_UID = "id -u; id -g; true"

CASES = [
    Case(
        "ConfigMap, from environment field; Secrets, pod environment field",
        shell(
            "echo $A $B",
            env=[
                _env("A", configMapKeyRef={"name": "source", "key": "data_1"}),
                _env("B", secretKeyRef={"name": "source", "key": "data_2"}),
            ],
        ),
        "value-1 value-2\n",
    ),
    Case(
        "ConfigMap, from environment field with various prefixes; Secrets, … with various prefixes",
        box(
            "env",
            envFrom=[
                *({"configMapRef": {"name": "source"}, "prefix": prefix} for prefix in _PREFIXES),
                {"secretRef": {"name": "source"}, "prefix": "s"},
            ],
        ),
        "".join(sorted(f"{prefix}data_1=value-1\n" for prefix in [*_PREFIXES, "s"])),
        only="data_1",
    ),
    Case(
        "Containers, with command and arguments",
        {**box("/bin/echo"), "args": ["one", "two"]},
        "one two\n",
    ),
    Case("Containers, with arguments", {**box(), "command": None, "args": ["echo", "args"]}, "args\n"),
    Case(
        "Environment variables, expansion",
        shell(
            "echo $C",
            env=[{"name": "A", "value": "a"}, {"name": "B", "value": "b"}, {"name": "C", "value": "$(A);;$(B)"}],
        ),
        "a;;b\n",
    ),
    Case(
        "Environment variables, command expansion",
        box("sh", "-c", "A=$(V) sh -c 'echo $A'", env=[{"name": "V", "value": "value"}]),
        "value\n",
    ),
    Case(
        "Environment variables, command argument expansion",
        {**box("echo"), "args": ["$(V)", "$$(V)", "$(W)"], "env": [{"name": "V", "value": "value"}]},
        "value $(V) $(W)\n",
    ),
    Case(
        "DownwardAPI, environment for CPU and memory limits and requests",
        shell("echo $A $B $C $D", env=_SIZE_ENV, resources=_SIZES),
        "2 1 67108864 33554432\n",
    ),
    Case(
        "DownwardAPI, environment for host ip; for hostIPs",
        shell("echo $H $I", env=[_field("H", "status.hostIP"), _field("I", "status.hostIPs")]),
        f"{NODE_IP} {NODE_IP}\n",
    ),
    Case("Kubelet, log output, default", shell("echo out; echo err >&2"), "out\nerr\n"),
    Case(
        "Kubelet, hostAliases",
        shell("tail -n 2 /etc/hosts"),
        "# Entries added by HostAliases.\n123.45.67.89\tfoo\tbar\n",
        {"hostAliases": [{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}]},
    ),
    Case(
        "Kubelet, pod with read only root file system",
        shell("echo x > /file || echo refused; true", securityContext={"readOnlyRootFilesystem": True}),
        "sh: can't create /file: Read-only file system\nrefused\n",
    ),
    Case(
        "Security Context, readOnlyRootFilesystem=false.",
        shell("echo x > /file && cat /file", securityContext={"readOnlyRootFilesystem": False}),
        "x\n",
    ),
    Case("Security Context, runAsUser=65534", shell("id -u", securityContext={"runAsUser": 65534}), "65534\n"),
    Case(
        "Security Context, privileged=false.",
        shell("ip link add d0 type dummy 2>&1 || true", securityContext={"privileged": False}),
        "ip: RTNETLINK answers: Operation not permitted\n",
    ),
    Case(
        "Security Context, test RunAsGroup at pod level",
        shell(_BY_UID),
        "1001\n2002\n",
        {"securityContext": {"runAsUser": 1001, "runAsGroup": 2002}},
    ),
    Case(
        "Security Context, test RunAsGroup at container level",
        shell(_BY_UID, securityContext={"runAsUser": 1001, "runAsGroup": 2002}),
        "1001\n2002\n",
    ),
    Case(
        "Security Context, allowPrivilegeEscalation=false.",
        shell(
            "id -u; grep NoNewPrivs /proc/self/status",
            securityContext={"runAsUser": 1000, "allowPrivilegeEscalation": False},
        ),
        "1000\nNoNewPrivs:\t1\n",
    ),
    Case(
        "Sysctl, test sysctls",
        shell("cat /proc/sys/kernel/shm_rmid_forced"),
        "1\n",
        {"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}},
    ),
    Case(
        "Pod DNS, options and names of its own",
        shell("cat /etc/resolv.conf"),
        "search resolv.conf.local\nnameserver 1.1.1.1\noptions ndots:2\n",
        {
            "dnsPolicy": "None",
            "dnsConfig": {
                "nameservers": ["1.1.1.1"],
                "searches": ["resolv.conf.local"],
                "options": [{"name": "ndots", "value": "2"}],
            },
        },
    ),
]


async def test_what_containers_print(node: TestNode) -> None:
    """The requirements named in CASES."""
    names = [f"case-{i}" for i in range(len(CASES))]
    for name, case in zip(names, CASES, strict=True):
        await node.create({"restartPolicy": "Never", "containers": [case.container], **case.spec}, name=name)
    wrong = []
    for name, case in zip(names, CASES, strict=True):
        await node.wait_phase(name, case.phase, 60)
        output = "\n".join(line for line in (await node.logs(name)).splitlines() if case.only in line)
        if sorted(output.splitlines()) != sorted(case.output.splitlines()):
            wrong.append(f"{case.requirement}: {output!r}, not {case.output!r}")
    assert not wrong, "\n".join(wrong)
    await asyncio.gather(*(node.delete(name) for name in names))


async def test_environment_of_a_pod_itself(node: TestNode) -> None:
    """DownwardAPI, environment for name, namespace and ip; DownwardAPI, environment for Pod UID."""
    env = [_field(n, p) for n, p in (("N", "metadata.name"), ("S", "metadata.namespace"), ("I", "status.podIP"))]
    env.append(_field("U", "metadata.uid"))
    name = await node.create({"restartPolicy": "Never", "containers": [shell("echo $N $S $I $U", env=env)]})
    pod = await node.wait_phase(name, "Succeeded")
    seen = (await node.logs(name)).split()
    assert seen == [name, node.namespace, pod["status"]["podIP"], pod["metadata"]["uid"]]
    await node.delete(name)


async def test_termination_messages(node: TestNode) -> None:
    """Container Runtime, TerminationMessage, from log output of succeeding container / from file of succeeding
    container / from container's log output of failing container; TerminationMessagePath, non-root user and non-default
    path."""
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    own_path = {"terminationMessagePath": "/dev/termination-custom-log", "securityContext": {"runAsUser": 1000}}
    cases = [
        (shell("echo DONE", **fallback), "Succeeded", None),
        (shell("echo -n OK > /dev/termination-log", **fallback), "Succeeded", "OK"),
        (shell("echo -n DONE; exit 1", **fallback), "Failed", "DONE"),
        (shell("echo -n DONE > /dev/termination-custom-log", **own_path), "Succeeded", "DONE"),
    ]
    names = [await node.create({"restartPolicy": "Never", "containers": [c]}) for c, _, _ in cases]
    for name, (_, phase, message) in zip(names, cases, strict=True):
        ended = container_status(await node.wait_phase(name, phase))["state"]["terminated"]
        assert ended.get("message") == message
        assert ended["reason"] == ("Completed" if phase == "Succeeded" else "Error")
        await node.delete(name)


async def test_container_that_always_fails_has_a_reason_and_can_be_deleted(node: TestNode) -> None:
    """Kubelet, failed pod, terminated reason; Kubelet, failed pod, delete; Container Runtime, Restart Policy."""
    name = await node.create({"containers": [box("/bin/false")]})

    def ended(pod: Object) -> bool:
        status = container_status(pod)
        last = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated")
        return last is not None and last["reason"] == "Error" and status["restartCount"] > 0

    pod = await node.wait(name, ended, "a reason of the end")
    assert pod["status"]["phase"] == "Running"
    await node.delete(name)


async def test_hosts_files(node: TestNode) -> None:
    """Kubelet, managed etc hosts."""
    volumes = [{"name": "h", "hostPath": {"path": "/etc/hosts", "type": "File"}}]
    mounts = [{"name": "h", "mountPath": "/etc/hosts"}]
    own = {**box("cat", "/etc/hosts"), "name": "own"}
    hosts = {**box("cat", "/etc/hosts", volumeMounts=mounts), "name": "hosts"}
    name = await node.create({"restartPolicy": "Never", "volumes": volumes, "containers": [own, hosts]})
    shared = await node.create({"restartPolicy": "Never", "hostNetwork": True, "containers": [own]})
    pod = await node.wait_phase(name, "Succeeded")
    await node.wait_phase(shared, "Succeeded")
    mark = "# Kubernetes-managed hosts file."
    text = await node.logs(name, "own")
    assert text.startswith(mark)
    assert f"{pod['status']['podIP']}\t{name}\n" in text
    assert mark not in await node.logs(name, "hosts")
    # As upstream: a pod on the host's network has a copy of the host's file, with a head of its own.
    assert (await node.logs(shared, "own")).startswith("# Kubernetes-managed hosts file (host network).")
    await node.delete(name)
    await node.delete(shared)


async def test_init_containers_in_pods_of_each_restart_policy(node: TestNode) -> None:
    """init-container-starts-app-restartnever-pod; …-restartalways-pod; init-container-fails-stops-app-restartnever-pod;
    …-restartalways-pod."""
    init = [{**box("true"), "name": "init1"}, {**box("true"), "name": "init2"}]
    failing = [{**box("false"), "name": "init1"}, {**box("true"), "name": "init2"}]
    never = await node.create({"restartPolicy": "Never", "initContainers": init, "containers": [box("true")]})
    always = await node.create({"initContainers": init, "containers": [box("sleep", "3600")]})
    failed = await node.create({"restartPolicy": "Never", "initContainers": failing, "containers": [box("true")]})
    stuck = await node.create({"initContainers": failing, "containers": [box("sleep", "3600")]})
    pod = await node.wait_phase(never, "Succeeded")
    _, initialized = _condition(pod, "Initialized")
    assert initialized == "True"
    assert all(s["state"]["terminated"]["exitCode"] == 0 for s in pod["status"]["initContainerStatuses"])
    pod = await node.wait_ready(always)
    assert all(s["ready"] for s in pod["status"]["initContainerStatuses"])
    pod = await node.wait_phase(failed, "Failed")
    assert _condition(pod, "Initialized") == ("ContainersNotInitialized", "False")
    assert container_status(pod)["state"]["waiting"]["reason"] == "PodInitializing"

    def restarted(pod: Object) -> bool:
        first = container_status(pod, "init1", "initContainerStatuses")
        return int(first.get("restartCount", 0)) >= 1

    pod = await node.wait(stuck, restarted, "the first init container to be tried again", 60)
    assert pod["status"]["phase"] == "Pending"
    assert container_status(pod, "init2", "initContainerStatuses")["state"]["waiting"]["reason"] == "PodInitializing"
    for name in (never, always, failed, stuck):
        await node.delete(name)


def _condition(pod: Object, kind: str) -> tuple[str, str]:
    found = meta.condition(pod["status"]["conditions"], kind) or {}
    return found.get("reason", ""), found.get("status", "")


async def test_probes_restart_only_what_fails(node: TestNode) -> None:
    """Pod liveness probe, using local file, restart / no restart; using http endpoint; using tcp socket; using grpc
    call, failure; Pod readiness probe, failure / with initial delay."""
    quick = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5}
    serve = "httpd -f -p 8080 -h /tmp"
    health = {"exec": {"command": ["cat", "/tmp/health"]}, **quick}
    http = {"httpGet": {"path": "/healthz", "port": 8080}, "initialDelaySeconds": 1, **quick}
    tcp = {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1, **quick}
    grpc = {"grpc": {"port": 2333}, **quick}
    restarted = [
        shell(
            "echo ok > /tmp/health; sleep 2; rm /tmp/health; sleep 600",
            livenessProbe={**health, "initialDelaySeconds": 1},
        ),
        shell(f"echo ok > /tmp/healthz; (sleep 2; rm /tmp/healthz) & {serve}", livenessProbe=http),
        shell("sleep 600", livenessProbe=grpc),
    ]
    kept = [
        shell("echo ok > /tmp/health; sleep 600", livenessProbe={**health, "initialDelaySeconds": 1}),
        shell(f"echo ok > /tmp/healthz; {serve}", livenessProbe=http),
        shell(f"(sleep 1; rm -f /tmp/healthz) & {serve}", livenessProbe=tcp),
    ]
    unready = shell("sleep 600", readinessProbe={"exec": {"command": ["/bin/false"]}, **quick})
    late = shell("sleep 600", readinessProbe={"exec": {"command": ["/bin/true"]}, **quick, "initialDelaySeconds": 5})
    bad = [await node.create({"containers": [c]}) for c in restarted]
    good = [await node.create({"containers": [c]}) for c in kept]
    never, waits = [await node.create({"containers": [c]}) for c in (unready, late)]
    for name in bad:
        await node.wait(
            name, lambda p: int(container_status(p).get("restartCount", 0)) > 0, f"{name} to be restarted", 60
        )
    pod = await node.wait_ready(waits)
    since = meta.parse_time((meta.condition(pod["status"]["conditions"], "Ready") or {})["lastTransitionTime"])
    began = meta.parse_time(container_status(pod)["state"]["running"]["startedAt"])
    assert (since - began).total_seconds() >= 4
    assert not is_ready(await node.get(never))
    for name in [*good, never, waits]:
        assert container_status(await node.get(name))["restartCount"] == 0
    for name in [*bad, *good, never, waits]:
        await node.delete(name)


async def test_generations_are_observed(node: TestNode) -> None:
    """Pods Generation, updates; Pods Generation, graceful delete; Pods Generation, many updates converge."""
    name = await node.create({"containers": [box("sleep", "3600")], "terminationGracePeriodSeconds": 5})
    pod = await node.wait_ready(name)
    assert (pod["metadata"]["generation"], pod["status"]["observedGeneration"]) == (1, 1)
    for count in range(30):
        change = {"spec": {"activeDeadlineSeconds": 5000 - count}}
        await node.client.patch(PODS, name, change, node.namespace, content_type=STRATEGIC)
    await node.wait(name, lambda p: p["status"].get("observedGeneration") == 31, "all updates to be observed")
    await node.client.patch(
        PODS, name, {"metadata": {"finalizers": ["t.example/f"]}}, node.namespace, content_type=STRATEGIC
    )
    await node.client.delete(PODS, name, node.namespace)
    await node.wait(name, lambda p: p["status"].get("observedGeneration") == 32, "the deletion to be observed")
    await node.client.patch(PODS, name, {"metadata": {"finalizers": None}}, node.namespace, content_type=STRATEGIC)
    await node.delete(name)


async def test_deadline_may_be_set_later(node: TestNode) -> None:
    """Pods, ActiveDeadlineSeconds; Pods, update."""
    name = await node.create({"containers": [box("sleep", "3600")]})
    await node.wait_ready(name)
    change = {"spec": {"activeDeadlineSeconds": 1}, "metadata": {"labels": {"time": "now"}}}
    await node.client.patch(PODS, name, change, node.namespace, content_type=STRATEGIC)
    pod = await node.wait_phase(name, "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"
    await node.delete(name)


async def test_hooks_call_other_pods(node: TestNode) -> None:
    """Pod Lifecycle, post start exec / http hook; prestop exec / http hook; Pods, prestop hook."""
    server = await node.create(
        {"containers": [shell("mkdir -p /w; touch /w/started /w/stopped; httpd -fvv -p 8080 -h /w")]}
    )
    ip = (await node.wait_ready(server))["status"]["podIP"]
    hooks = {
        "postStart": {"httpGet": {"host": ip, "path": "/started", "port": 8080}},
        "preStop": {"httpGet": {"host": ip, "path": "/stopped", "port": 8080}},
    }
    inside = {
        "postStart": {"exec": {"command": ["wget", "-qO", "/dev/null", f"http://{ip}:8080/started?exec"]}},
        "preStop": {"exec": {"command": ["wget", "-qO", "/dev/null", f"http://{ip}:8080/stopped?exec"]}},
    }
    names = [await node.create({"containers": [box("sleep", "3600", lifecycle=h)]}) for h in (hooks, inside)]
    for name in names:
        await node.wait_ready(name)
        await node.delete(name, grace_seconds=2)

    async def all_called() -> bool:
        text = await node.logs(server)
        return text.count("url:/started") == 2 and text.count("url:/stopped") == 2

    await eventually(all_called, "all hooks to have called")
    await node.delete(server)


async def test_ephemeral_containers_are_added_one_after_the_other(node: TestNode) -> None:
    """Ephemeral Container Creation; Ephemeral Container, update ephemeral containers."""
    name = await node.create({"containers": [box("sleep", "3600")]})
    await node.wait_ready(name)
    for debugger in ("debugger", "debugger2"):
        own = {**box("sleep", "3600"), "name": debugger, "stdin": True, "tty": True}
        patch = {"spec": {"ephemeralContainers": [own]}}
        await node.client.patch(
            PODS, name, patch, node.namespace, content_type=STRATEGIC, subresource="ephemeralcontainers"
        )

        def runs(pod: Object, debugger: str = debugger) -> bool:
            return "running" in container_status(pod, debugger, "ephemeralContainerStatuses").get("state", {})

        await node.wait(name, runs, f"{debugger} to run")
    pod = await node.get(name)
    assert len(pod["status"]["ephemeralContainerStatuses"]) == 2
    await node.delete(name)


async def test_invalid_sysctl_and_unsafe_sysctl(node: TestNode) -> None:
    """Sysctls, reject invalid sysctls: the node refuses what it has not been allowed."""
    sysctls = [{"name": "kernel.msgmax", "value": "10000000000"}]
    name = await node.create({"containers": [box("true")], "securityContext": {"sysctls": sysctls}})
    pod = await node.wait_phase(name, "Failed")
    assert pod["status"]["reason"] == "SysctlForbidden"
    await node.wait_event(name, "SysctlForbidden", "forbidden sysctl")
    await node.delete(name)
