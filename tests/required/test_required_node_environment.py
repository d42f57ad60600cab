"""What the conformance suite requires of commands, arguments and environments of containers ([sig-node])."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cluster import Cluster, container, eventually, pod, requirement, shell, shows
from lab_images import ECHO

from machinery.api import quantity
from machinery.api.catalogue import CONFIGMAPS, NODES, PODS, SECRETS, SERVICES
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

_DATA = {"data_1": "value-1", "data-2": "value-2", "data.3": "value-3"}
_PREFIXES = ["", "p_", "p-", "1-", "$-", "#", "@!~ #", "a.b/", "x:;<>?[]{}|`'\"\\", "-", "."]
"""A prefix of names may be made of any printable character of ASCII but `=`."""


async def _sources(cluster: Cluster) -> None:
    await cluster.create(CONFIGMAPS, {"metadata": {"name": "source"}, "data": _DATA})
    await cluster.create(SECRETS, {"metadata": {"name": "source"}, "stringData": _DATA})


def _environment(*variables: Object, **fields: Any) -> Object:
    return container("env", env=list(variables), **fields)


def _from_all(kind: str, prefixes: Sequence[str]) -> Object:
    sources = [{**({"prefix": prefix} if prefix else {}), kind: {"name": "source"}} for prefix in prefixes]
    return container("env", envFrom=sources)


def _prefixed(prefixes: Sequence[str]) -> list[str]:
    return [f"{prefix}{key}={value}" for prefix in prefixes for key, value in _DATA.items()]


def _from(name: str, **source: Any) -> Object:
    return {"name": name, "valueFrom": source}


def _field(name: str, path: str) -> Object:
    return _from(name, fieldRef={"apiVersion": "v1", "fieldPath": path})


_FROM_KEYS = {
    kind: _environment(_from("DATA_1", **{kind: {"name": "source", "key": "data_1"}}))
    for kind in ("configMapKeyRef", "secretKeyRef")
}


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        shows(
            _FROM_KEYS["configMapKeyRef"],
            ["DATA_1=value-1"],
            name="[sig-node] ConfigMap should be consumable via environment variable [NodeConformance] [Conformance]",
        ),
        shows(
            _FROM_KEYS["secretKeyRef"],
            ["DATA_1=value-1"],
            name="[sig-node] Secrets should be consumable from pods in env vars [NodeConformance] [Conformance]",
        ),
        shows(
            _from_all("configMapRef", ["", "p-"]),
            _prefixed(["", "p-"]),
            name="[sig-node] ConfigMap should be consumable via the environment [NodeConformance] [Conformance]",
        ),
        shows(
            _from_all("secretRef", ["", "p-"]),
            _prefixed(["", "p-"]),
            name="[sig-node] Secrets should be consumable via the environment [NodeConformance] [Conformance]",
        ),
        shows(
            _from_all("configMapRef", _PREFIXES),
            _prefixed(_PREFIXES),
            name="[sig-node] ConfigMap should be consumable as environment variable names with various prefixes [Conformance]",
        ),
        shows(
            _from_all("secretRef", _PREFIXES),
            _prefixed(_PREFIXES),
            name="[sig-node] Secrets should be consumable as environment variable names variable names with various prefixes [Conformance]",
        ),
    ],
)
async def test_environment_of_config_maps_and_secrets(cluster: Cluster, made: Object, lines: Sequence[str]) -> None:
    await _sources(cluster)
    ended = await cluster.run(pod("environment", made))
    assert (ended.phase, _missing(lines, ended.log)) == ("Succeeded", [])


_LIMITS = [
    _from(name, resourceFieldRef={"resource": resource})
    for name, resource in (("CPU_LIMIT", "limits.cpu"), ("MEMORY_LIMIT", "limits.memory"))
]
_SIZES = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
_ALL_SIZES = [
    *_LIMITS,
    _from("CPU_REQUEST", resourceFieldRef={"resource": "requests.cpu"}),
    _from("MEMORY_REQUEST", resourceFieldRef={"resource": "requests.memory"}),
]


def _addresses(node: Object) -> str:
    """The node's own address."""
    return ",".join(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")


def _identity(made: Object, _: Object) -> list[str]:
    metadata = made["metadata"]
    status = made["status"]
    return [f"NAME={metadata['name']}", f"SPACE={metadata['namespace']}", f"IP={status['podIP']}"]


def _allocatable(_: Object, node: Object) -> list[str]:
    sizes = node["status"]["allocatable"]
    cpus = -(-quantity.parse(sizes["cpu"]).milli_value() // 1000)  # whole ones, rounded up
    return [f"CPU_LIMIT={cpus}", f"MEMORY_LIMIT={quantity.parse(sizes['memory']).value()}"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        shows(
            _environment(
                _field("NAME", "metadata.name"), _field("SPACE", "metadata.namespace"), _field("IP", "status.podIP")
            ),
            _identity,
            name="[sig-node] Downward API should provide pod name, namespace and IP address as env vars [NodeConformance] [Conformance]",
        ),
        shows(
            _environment(_field("POD_UID", "metadata.uid")),
            lambda made, _: [f"POD_UID={made['metadata']['uid']}"],
            name="[sig-node] Downward API should provide pod UID as env vars [NodeConformance] [Conformance]",
        ),
        shows(
            _environment(_field("HOST_IP", "status.hostIP")),
            lambda _, node: [f"HOST_IP={_addresses(node)}"],
            name="[sig-node] Downward API should provide host IP as an env var [NodeConformance] [Conformance]",
        ),
        shows(
            _environment(_field("HOST_IPS", "status.hostIPs")),
            lambda _, node: [f"HOST_IPS={_addresses(node)}"],
            name="[sig-node] Downward API should provide hostIPs as an env var [NodeConformance] [Conformance]",
        ),
        shows(
            _environment(*_ALL_SIZES, resources=_SIZES),
            lambda *_: ["CPU_LIMIT=2", "MEMORY_LIMIT=67108864", "CPU_REQUEST=1", "MEMORY_REQUEST=33554432"],
            name="[sig-node] Downward API should provide container's limits.cpu/memory and requests.cpu/memory as env vars [NodeConformance] [Conformance]",
        ),
        shows(
            _environment(*_LIMITS),
            _allocatable,
            name="[sig-node] Downward API should provide default limits.cpu/memory from node allocatable [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_environment_of_the_pod_itself(
    cluster: Cluster, made: Object, expected: Callable[[Object, Object], list[str]]
) -> None:
    ended = await cluster.run(pod("environment", made))
    node = await cluster.get(NODES, ended.pod["spec"]["nodeName"])
    assert (ended.phase, _missing(expected(ended.pod, node), ended.log)) == ("Succeeded", [])


def _missing(lines: Sequence[str], log: str) -> list[str]:
    found = set(log.splitlines())
    return [line for line in lines if line not in found]


_FOO_BAR = [{"name": "FOO", "value": "foo-value"}, {"name": "BAR", "value": "bar-value"}]
_TEST_VAR = [{"name": "TEST_VAR", "value": "test-value"}]


@pytest.mark.parametrize(
    ("made", "log"),
    [
        shows(
            shell("echo $FOOBAR", env=[*_FOO_BAR, {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"}]),
            "foo-value;;bar-value\n",
            name="[sig-node] Variable Expansion should allow composing env vars into new env vars [NodeConformance] [Conformance]",
        ),
        shows(
            container("sh", "-c", "TEST_VAR=wrong echo '$(TEST_VAR)' '$$(TEST_VAR)' '$(OTHER)'", env=_TEST_VAR),
            "test-value $(TEST_VAR) $(OTHER)\n",
            name="[sig-node] Variable Expansion should allow substituting values in a container's command [NodeConformance] [Conformance]",
        ),
        shows(
            {**container("echo", env=_TEST_VAR), "args": ["$(TEST_VAR)", "$$(TEST_VAR)", "$(OTHER)"]},
            "test-value $(TEST_VAR) $(OTHER)\n",
            name="[sig-node] Variable Expansion should allow substituting values in a container's args [NodeConformance] [Conformance]",
        ),
        shows(
            {**container(image=ECHO), "args": ["echo", "override", "arguments"]},
            "override arguments\n",
            name="[sig-node] Containers should be able to override the image's default arguments (container cmd) [NodeConformance] [Conformance]",
        ),
        shows(
            container("/bin/echo", "instead", image=ECHO),
            "instead\n",
            name="[sig-node] Containers should be able to override the image's default command (container entrypoint) [NodeConformance] [Conformance]",
        ),
        shows(
            {**container("/bin/echo", "instead", image=ECHO), "args": ["override", "arguments"]},
            "instead override arguments\n",
            name="[sig-node] Containers should be able to override the image's default command and arguments [NodeConformance] [Conformance]",
        ),
    ],
)
async def test_commands_and_arguments(cluster: Cluster, made: Object, log: str) -> None:
    ended = await cluster.run(pod("command", made))
    assert (ended.phase, ended.log) == ("Succeeded", log)


@requirement(
    "[sig-node] Containers should use the image defaults if command and args are blank [NodeConformance] [Conformance]"
)
async def test_defaults_of_the_image(cluster: Cluster) -> None:
    """The image's entrypoint is its init process, its command an HTTP server."""
    await cluster.start(pod("defaults", container(image=ECHO)))
    processes = (await cluster.exec("defaults", "ps", "-o", "args")).splitlines()
    assert "/sbin/catatonit -- httpd -f -vv -p 8080 -h /www" in processes
    told = await eventually(
        lambda: cluster.kubectl("exec", "defaults", "--", "wget", "-qO-", "localhost:8080/healthz", check=False),
        "an answer",
    )
    assert told == "ok\n"


@requirement("[sig-node] Pods should contain environment variables for services [NodeConformance] [Conformance]")
async def test_services_are_in_the_environment(cluster: Cluster) -> None:
    await cluster.start(pod("server", container(image=ECHO), labels={"name": "server"}))
    spec = {"ports": [{"port": 8765, "targetPort": 8080}], "selector": {"name": "server"}}
    address = (await cluster.create(SERVICES, {"metadata": {"name": "fooservice"}, "spec": spec}))["spec"]["clusterIP"]
    expected = [
        f"FOOSERVICE_SERVICE_HOST={address}",
        "FOOSERVICE_SERVICE_PORT=8765",
        f"FOOSERVICE_PORT=tcp://{address}:8765",
        f"FOOSERVICE_PORT_8765_TCP=tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP_PROTO=tcp",
        "FOOSERVICE_PORT_8765_TCP_PORT=8765",
        f"FOOSERVICE_PORT_8765_TCP_ADDR={address}",
    ]
    missing = expected
    for _ in range(3):  # a kubelet may hear of the service after the pod
        ended = await cluster.run(pod("client", container("env")))
        missing = _missing(expected, ended.log)
        if not missing:
            break
        await cluster.delete(PODS, "client")
    assert not missing
