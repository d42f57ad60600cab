"""What Kubernetes' conformance suite requires of volumes ([sig-storage]): each requirement by its name.

Most of them say what a container sees in a file of a volume. So one pod mounts a volume for each requirement, and
prints for each: permissions, owner, group and contents.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from kubelet_node import TestNode, box, eventually, running_node, shell

from machinery.api.catalogue import CONFIGMAPS, PODS, SECRETS
from machinery.api.meta import Object
from machinery.client.rest import MERGE, STRATEGIC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[TestNode]:
    async with running_node() as made:
        await _make_sources(made)
        yield made


async def _make_sources(node: TestNode) -> None:
    config = {"data-1": "value-1", "data-2": "value-2"}
    await _create(node, CONFIGMAPS, "config", data=config, binaryData={"dump": base64.b64encode(b"\xde\xca").decode()})
    await _create(node, SECRETS, "secret", data={k: base64.b64encode(v.encode()).decode() for k, v in config.items()})


async def _create(node: TestNode, kind: Any, name: str, **fields: Any) -> Object:
    metadata = {"name": name, "namespace": node.namespace}
    return await node.client.create(kind, {"apiVersion": "v1", "kind": kind.kind, "metadata": metadata, **fields})


@dataclass(frozen=True)
class Case:
    """A file in a volume, as a container sees it: `mode uid gid contents`."""

    requirement: str
    source: Object
    path: str
    seen: str
    security: Object = field(default_factory=dict)


_ITEM = [{"key": "data-2", "path": "path/to/data-2"}]
_ITEM_MODE = [{"key": "data-2", "path": "path/to/data-2", "mode": 0o400}]
_NON_ROOT = {"runAsUser": 1000, "runAsNonRoot": True}


def _file_cases(title: str, make: Any, non_root: bool) -> list[Case]:
    """What is required of ConfigMaps and Secrets alike, in volumes of their own and in projected ones."""
    cases = [
        Case(f"{title}: without mapping", make(), "data-1", "644 0 0 value-1"),
        Case(f"{title}: volume mode 0400", make(mode=0o400), "data-1", "400 0 0 value-1"),
        Case(f"{title}: with mapping", make(items=_ITEM), "path/to/data-2", "644 0 0 value-2"),
        Case(f"{title}: with mapping, Item mode 0400", make(items=_ITEM_MODE), "path/to/data-2", "400 0 0 value-2"),
    ]
    if non_root:
        cases += [
            Case(f"{title}: without mapping, non-root user", make(), "data-1", "644 0 0 value-1", _NON_ROOT),
            Case(f"{title}: with mapping, non-root", make(items=_ITEM), "path/to/data-2", "644 0 0 value-2", _NON_ROOT),
        ]
    return cases


def _config_map(items: Any = None, mode: int | None = None) -> Object:
    return {"configMap": _with({"name": "config"}, items, mode)}


def _secret(items: Any = None, mode: int | None = None) -> Object:
    return {"secret": _with({"secretName": "secret"}, items, mode)}


def _projected(kind: str, name: str) -> Any:
    def make(items: Any = None, mode: int | None = None) -> Object:
        return {"projected": _with({"sources": [{kind: _with({"name": name}, items, None)}]}, None, mode)}

    return make


def _with(source: Object, items: Any, mode: int | None) -> Object:
    return source | ({"items": items} if items else {}) | ({"defaultMode": mode} if mode is not None else {})


def _downward(path: str, wanted: Object, *, projected: bool, mode: int | None = None) -> Object:
    item = {"path": path, **wanted}
    if projected:
        return {"projected": {"sources": [{"downwardAPI": {"items": [item]}}]} | _mode(mode)}
    return {"downwardAPI": {"items": [item]} | _mode(mode)}


def _mode(mode: int | None) -> Object:
    return {} if mode is None else {"defaultMode": mode}


def _resource(name: str) -> Object:
    divisor = "1m" if name.endswith("cpu") else "1Mi"
    return {"resourceFieldRef": {"containerName": "sized", "resource": name, "divisor": divisor}}


def _downward_cases(*, projected: bool) -> list[Case]:
    title = "Projected Volume, DownwardAPI" if projected else "DownwardAPI volume"
    name = {"fieldRef": {"fieldPath": "metadata.name"}}
    cases = [
        Case(f"{title}, pod name", _downward("podname", name, projected=projected), "podname", "644 0 0 volumes"),
        Case(
            f"{title}, volume mode 0400",
            _downward("podname", name, projected=projected, mode=0o400),
            "podname",
            "400 0 0 volumes",
        ),
        Case(
            f"{title}, file mode 0400",
            _downward("podname", {**name, "mode": 0o400}, projected=projected),
            "podname",
            "400 0 0 volumes",
        ),
    ]
    for field_name, wanted in (
        ("limits.cpu", "1250"),
        ("requests.cpu", "250"),
        ("limits.memory", "64"),
        ("requests.memory", "32"),
    ):
        source = _downward("value", _resource(field_name), projected=projected)
        cases.append(Case(f"{title}, {field_name}", source, "value", f"644 0 0 {wanted}"))
    return cases


CASES = [
    *_file_cases("ConfigMap Volume", _config_map, non_root=True),
    *_file_cases("Secrets Volume", _secret, non_root=False),
    *_file_cases("Projected Volume, ConfigMap", _projected("configMap", "config"), non_root=True),
    *_file_cases("Projected Volume, Secrets", _projected("secret", "secret"), non_root=False),
    *_downward_cases(projected=False),
    *_downward_cases(projected=True),
]


async def test_what_containers_see_in_files_of_volumes(node: TestNode) -> None:
    """ConfigMap Volume, Secrets Volume, Projected Volume and DownwardAPI volume: the requirements named in CASES."""
    volumes = [{"name": f"v{i}", **case.source} for i, case in enumerate(CASES)]
    readers: dict[str, list[int]] = {}
    for i, case in enumerate(CASES):
        readers.setdefault("user" if case.security else "root", []).append(i)
    containers = []
    for who, cases in readers.items():
        mounts = [{"name": f"v{i}", "mountPath": f"/v{i}"} for i in cases]
        script = "; ".join(
            f"echo {i} $(stat -L -c '%a %u %g' /v{i}/{CASES[i].path}) $(cat /v{i}/{CASES[i].path})" for i in cases
        )
        security = CASES[cases[0]].security
        containers.append({**shell(script, volumeMounts=mounts, securityContext=security), "name": who})
    sizes = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
    containers.append({**box("true"), "name": "sized", "resources": sizes})
    pod = {"restartPolicy": "Never", "volumes": volumes, "containers": containers}
    await node.create(pod, name="volumes")
    await node.wait_phase("volumes", "Succeeded", 60)
    lines = "".join([await node.logs("volumes", who) for who in readers]).splitlines()
    seen = {int(number): rest for number, _, rest in (line.partition(" ") for line in lines)}
    wrong = [f"{c.requirement}: {seen.get(i)!r}, not {c.seen!r}" for i, c in enumerate(CASES) if seen.get(i) != c.seen]
    assert not wrong, "\n".join(wrong)
    await node.delete("volumes")


async def test_group_and_mode_of_secrets_for_another_user(node: TestNode) -> None:
    """Secrets Volume, volume mode 0440, fsGroup 1001 and uid 1000; Project Volume, Secrets, non-root, custom fsGroup;
    Projected Volume, multiple projections; ConfigMap Volume, text data, binary data; … multiple volume maps."""
    everything = {
        "sources": [
            {"secret": {"name": "secret", "items": [{"key": "data-1", "path": "secret-data"}]}},
            {"configMap": {"name": "config", "items": [{"key": "data-1", "path": "configmap-data"}]}},
            {"downwardAPI": {"items": [{"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]
    }
    script = (
        "for f in /s/data-1 /p/data-1; do stat -L -c '%a %u %g' $f; cat $f; echo; done;"
        "cat /all/secret-data /all/configmap-data /all/podname; echo; od -An -tx1 /c/dump; cat /c2/data-1; echo"
    )
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("s", "p", "all", "c", "c2")]
    name = await node.create(
        {
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": 1000, "fsGroup": 1001},
            "volumes": [
                {"name": "s", "secret": {"secretName": "secret", "defaultMode": 0o440}},
                {"name": "p", "projected": {"sources": [{"secret": {"name": "secret"}}], "defaultMode": 0o440}},
                {"name": "all", "projected": everything},
                {"name": "c", "configMap": {"name": "config"}},
                {"name": "c2", "configMap": {"name": "config"}},
            ],
            "containers": [shell(script, volumeMounts=mounts)],
        }
    )
    await node.wait_phase(name, "Succeeded")
    both = "440 0 1001\nvalue-1\n" * 2
    assert await node.logs(name) == f"{both}value-1value-1{name}\n de ca\nvalue-1\n"
    await node.delete(name)


EMPTY_DIRS = [(user, mode, medium) for user in (0, 1001) for mode in ("644", "666", "777") for medium in ("", "Memory")]


async def test_empty_dirs_have_the_modes_that_files_were_made_with(node: TestNode) -> None:
    """EmptyDir, medium default/memory, volume mode default/0644/0666/0777, root and non-root user."""
    names = [f"v{i}" for i in range(len(EMPTY_DIRS))]
    containers = []
    for user in (0, 1001):
        own = [i for i, case in enumerate(EMPTY_DIRS) if case[0] == user]
        script = "umask 0; " + "; ".join(
            f"echo content > /v{i}/f; chmod {EMPTY_DIRS[i][1]} /v{i}/f; "
            f"echo {i} $(stat -c %a /v{i}) $(stat -c '%a %u' /v{i}/f) $(cat /v{i}/f) "
            f"$(grep -q ' / /v{i} ' /proc/self/mountinfo && echo Memory)"
            for i in own
        )
        mounts = [{"name": names[i], "mountPath": f"/v{i}"} for i in own]
        security = {"runAsUser": user}
        containers.append({**shell(script, volumeMounts=mounts, securityContext=security), "name": f"u{user}"})
    volumes = [{"name": n, "emptyDir": {"medium": case[2]}} for n, case in zip(names, EMPTY_DIRS, strict=True)]
    name = await node.create({"restartPolicy": "Never", "volumes": volumes, "containers": containers})
    await node.wait_phase(name, "Succeeded")
    lines = (await node.logs(name, "u0") + await node.logs(name, "u1001")).splitlines()
    wanted = [f"{i} 777 {mode} {user} content {medium}".strip() for i, (user, mode, medium) in enumerate(EMPTY_DIRS)]
    assert sorted(line.strip() for line in lines) == sorted(wanted)
    await node.delete(name)


async def test_changes_of_sources_reach_running_containers(node: TestNode) -> None:
    """ConfigMap Volume, update; ConfigMap Volume, create, update and delete; the same for Secrets and projected
    volumes; DownwardAPI volume, update label and annotations; Projected Volume, DownwardAPI, the same."""
    for kind, encode in ((CONFIGMAPS, str), (SECRETS, lambda text: base64.b64encode(text.encode()).decode())):
        await _create(node, kind, "updated", data={"d": encode("old")})
        await _create(node, kind, "deleted", data={"d": encode("there")})
    volumes: list[Object] = []
    for stem in ("created", "updated", "deleted"):
        volumes += [
            {"name": f"c-{stem}", "configMap": {"name": stem, "optional": True}},
            {"name": f"s-{stem}", "secret": {"secretName": stem, "optional": True}},
            {"name": f"pc-{stem}", "projected": {"sources": [{"configMap": {"name": stem, "optional": True}}]}},
            {"name": f"ps-{stem}", "projected": {"sources": [{"secret": {"name": stem, "optional": True}}]}},
        ]
    items = [{"path": p, "fieldRef": {"fieldPath": f"metadata.{p}"}} for p in ("labels", "annotations")]
    volumes += [
        {"name": "d", "downwardAPI": {"items": items}},
        {"name": "pd", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/v/{v['name']}"} for v in volumes]
    metadata = {"labels": {"key": "one"}, "annotations": {"builder": "bar"}}
    name = await node.create(
        {"volumes": volumes, "containers": [box("sleep", "3600", volumeMounts=mounts)]}, metadata=metadata
    )
    await node.wait_ready(name)

    async def contents() -> dict[str, str]:
        script = "for f in /v/*/*; do [ -f $f ] && echo $f $(cat $f); done; true"
        lines = (await node.run_in(name, "sh", "-c", script)).splitlines()
        return {path: rest for path, _, rest in (line.partition(" ") for line in lines)}

    kinds = ("c", "s", "pc", "ps")
    before = await contents()
    assert {path for path in before if "created" in path} == set()
    assert all(before[f"/v/{k}-updated/d"] == "old" and before[f"/v/{k}-deleted/d"] == "there" for k in kinds)
    assert before["/v/d/labels"] == before["/v/pd/labels"] == 'key="one"'
    for kind, encode in ((CONFIGMAPS, str), (SECRETS, lambda text: base64.b64encode(text.encode()).decode())):
        await _create(node, kind, "created", data={"d": encode("new")})
        await node.client.patch(kind, "updated", {"data": {"d": encode("newer")}}, node.namespace, content_type=MERGE)
        await node.client.delete(kind, "deleted", node.namespace)
    changed = {"metadata": {"labels": {"key": "two"}, "annotations": {"builder": "foo"}}}
    await node.client.patch(PODS, name, changed, node.namespace, content_type=STRATEGIC)

    async def arrived() -> bool:
        now = await contents()
        of_files = all(
            now.get(f"/v/{k}-created/d") == "new"
            and now.get(f"/v/{k}-updated/d") == "newer"
            and f"/v/{k}-deleted/d" not in now
            for k in kinds
        )
        own = all(
            now[f"/v/{v}/labels"] == 'key="two"' and 'builder="foo"' in now[f"/v/{v}/annotations"] for v in ["d", "pd"]
        )
        return of_files and own

    try:
        await eventually(arrived, "the changes to arrive", 30)
    except AssertionError as error:
        raise AssertionError(f"{error}: {await contents()}") from error
    await node.delete(name)


async def test_default_limits_are_what_the_node_can_give(node: TestNode) -> None:
    """DownwardAPI volume, CPU limit / memory limit, default node allocatable; DownwardAPI, environment for default CPU
    and memory limits and requests; Projected Volume, DownwardAPI, the same."""
    allocatable = (await node.ready())["status"]["allocatable"]

    def item(name: str) -> Object:
        return {"path": name, "resourceFieldRef": {"containerName": "c", "resource": name}}

    items = [item("limits.cpu"), item("limits.memory")]
    mounts = [{"name": n, "mountPath": f"/{n}"} for n in ("d", "p")]
    env = [{"name": f"E{i}", "valueFrom": {"resourceFieldRef": {"resource": r["path"]}}} for i, r in enumerate(items)]
    script = "for v in d p; do cat /$v/limits.cpu; echo; cat /$v/limits.memory; echo; done; echo $E0; echo $E1"
    name = await node.create(
        {
            "restartPolicy": "Never",
            "volumes": [
                {"name": "d", "downwardAPI": {"items": items}},
                {"name": "p", "projected": {"sources": [{"downwardAPI": {"items": items}}]}},
            ],
            "containers": [shell(script, volumeMounts=mounts, env=env)],
        }
    )
    await node.wait_phase(name, "Succeeded")
    memory = str(int(allocatable["memory"].removesuffix("Ki")) * 1024)
    assert (await node.logs(name)).split() == [allocatable["cpu"], memory] * 3
    await node.delete(name)


async def test_subpaths_of_volumes_whose_files_are_written_by_the_kubelet(node: TestNode) -> None:
    """SubPath: Reading content from a configmap / secret / downwardAPI / projected volume; configmap pod with mountPath
    of existing file; HostPath and EmptyDir wrapper volumes do not conflict."""
    own = [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
    mounts = [
        {"name": "c", "mountPath": "/sub/config", "subPath": "data-1"},
        {"name": "s", "mountPath": "/sub/secret", "subPath": "data-1"},
        {"name": "d", "mountPath": "/sub/name", "subPath": "name"},
        {"name": "p", "mountPath": "/sub/projected", "subPath": "data-2"},
        {"name": "c", "mountPath": "/etc/passwd", "subPath": "data-2"},
    ]
    name = await node.create(
        {
            "restartPolicy": "Never",
            "volumes": [
                {"name": "c", "configMap": {"name": "config"}},
                {"name": "s", "secret": {"secretName": "secret"}},
                {"name": "d", "downwardAPI": {"items": own}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "config"}}]}},
            ],
            "containers": [
                shell(
                    "for f in config secret name projected; do cat /sub/$f; echo; done; cat /etc/passwd; echo",
                    volumeMounts=mounts,
                )
            ],
        }
    )
    await node.wait_phase(name, "Succeeded")
    assert (await node.logs(name)).split() == ["value-1", "value-1", name, "value-2", "value-2"]
    await node.delete(name)


async def test_subpath_expressions(node: TestNode) -> None:
    """VolumeSubpathEnvExpansion, subpath expansion; subpath with backticks; subpath with absolute path; subpath test
    writes; subpath ready from failed state."""
    volumes = [{"name": "w", "emptyDir": {}}]
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['mysubpath']"}}}]

    def pod(expression: str, script: str) -> Object:
        mounts = [{"name": "w", "mountPath": "/sub", "subPathExpr": expression}, {"name": "w", "mountPath": "/all"}]
        return {
            "restartPolicy": "Never",
            "volumes": volumes,
            "containers": [shell(script, env=env, volumeMounts=mounts)],
        }

    good = await node.create(
        pod("$(POD)", "echo hi > /sub/f; cat /all/mypath/f"), metadata={"annotations": {"mysubpath": "mypath"}}
    )
    for expression, value in (("$(POD)", "../../../etc"), ("$(POD)", "/absolute"), ("$(POD)$(MISSING)", "x")):
        bad = await node.create(pod(expression, "true"), metadata={"annotations": {"mysubpath": value}})
        await node.wait(bad, _config_error, "a container configuration error")
        await node.delete(bad)
    await node.wait_phase(good, "Succeeded")
    assert await node.logs(good) == "hi\n"
    late = await node.create(
        pod("$(POD)", "echo late > /sub/f; cat /all/fixed/f"), metadata={"annotations": {"mysubpath": "/no"}}
    )
    await node.wait(late, _config_error, "a container configuration error")
    fixed = {"metadata": {"annotations": {"mysubpath": "fixed"}}}
    await node.client.patch(PODS, late, fixed, node.namespace, content_type=STRATEGIC)
    await node.wait_phase(late, "Succeeded")
    for name in (good, late):
        await node.delete(name)


def _config_error(pod: Object) -> bool:
    states = [s.get("state", {}) for s in pod["status"].get("containerStatuses") or ()]
    return any((s.get("waiting") or {}).get("reason") == "CreateContainerConfigError" for s in states)
