"""The audit log: which requests are told, at which stages, and what of them; files that are rotated."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from controlplane.apiserver.audit import policy
from controlplane.apiserver.audit.event import attempted, source_ips, without_managed_fields
from controlplane.apiserver.audit.log import LogFile, Rotation
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import running_apiserver
from machinery.errors import SettingsError

MAPS = "/api/v1/namespaces/default/configmaps"


def written(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more}


@dataclass
class Audited:
    client: aiohttp.ClientSession
    file: Path

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@asynccontextmanager
async def audited(folder: Path, *rules: dict[str, Any], **more: Any) -> AsyncIterator[Audited]:
    (folder / "policy.yaml").write_text(json.dumps(written(*rules, **more)))
    log = folder / "audit.log"
    settings = Settings(audit_policy_file=str(folder / "policy.yaml"), audit_log_path=str(log))
    async with running_apiserver(settings) as server:
        headers = {"Authorization": f"Bearer {server.token}", "User-Agent": "test/1"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()))
        async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:
            yield Audited(client, log)


async def test_metadata_of_a_create(tmp_path: Path) -> None:
    rule = {"level": "Metadata", "resources": [{"group": "", "resources": ["configmaps"]}]}
    async with audited(tmp_path, rule) as server:
        async with server.client.post(MAPS, json={"metadata": {"name": "a"}}, headers={"Audit-ID": "mine"}) as answer:
            assert answer.headers["Audit-Id"] == "mine"
        async with server.client.get("/api/v1/namespaces/default/secrets"):
            pass
        received, complete = server.events()
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert received["stageTimestamp"] == received["requestReceivedTimestamp"]
    assert received["objectRef"] == {
        "resource": "configmaps",
        "namespace": "default",
        "apiVersion": "v1",
    }
    for timestamp in ("requestReceivedTimestamp", "stageTimestamp"):
        del complete[timestamp]
    assert complete == {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "mine",
        "stage": "ResponseComplete",
        "requestURI": MAPS,
        "verb": "create",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["127.0.0.1"],
        "userAgent": "test/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    }


async def test_objects_are_told_where_the_policy_asks_for_them(tmp_path: Path) -> None:
    rules = (
        {"level": "RequestResponse", "verbs": ["create"], "omitStages": ["RequestReceived"]},
        {"level": "Request", "verbs": ["patch", "delete"], "omitStages": ["RequestReceived"]},
    )
    async with audited(tmp_path, *rules, omitManagedFields=True) as server:
        async with server.client.post(MAPS, json={"metadata": {"name": "a"}, "data": {"k": "v"}}):
            pass
        merge = {"Content-Type": "application/merge-patch+json"}
        async with server.client.patch(f"{MAPS}/a", data=b'{"data":{"k":"w"}}', headers=merge):
            pass
        async with server.client.delete(f"{MAPS}/gone"):
            pass
        created, patched, refused = server.events()
    assert created["requestObject"]["data"] == {"k": "v"}
    assert created["responseObject"]["kind"] == "ConfigMap"
    assert "managedFields" not in created["responseObject"]["metadata"]
    assert patched["requestObject"] == {"data": {"k": "w"}}
    assert "responseObject" not in patched
    assert refused["responseStatus"] == {
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "gone" not found',
        "reason": "NotFound",
        "details": {"name": "gone", "kind": "configmaps"},
        "code": 404,
    }


async def test_a_watch_is_told_when_it_starts_and_when_it_ends(tmp_path: Path) -> None:
    async with audited(tmp_path, {"level": "Metadata", "verbs": ["watch"]}) as server:
        async with server.client.get(f"{MAPS}?watch=1&timeoutSeconds=1") as answer:
            await answer.read()
        stages = [event["stage"] for event in server.events()]
    assert stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


async def test_who_is_not_recognised_is_told_as_well(tmp_path: Path) -> None:
    async with audited(tmp_path, {"level": "Metadata", "resources": [{"group": ""}]}) as server:
        async with server.client.get(MAPS, headers={"Authorization": "Bearer wrong"}) as answer:
            assert answer.status == 401
        (event,) = server.events()
    assert (event["stage"], event["user"]) == ("ResponseStarted", {})
    assert event["responseStatus"] == {
        "metadata": {},
        "message": "Authentication failed, attempted: bearer",
        "code": 401,
    }
    assert attempted([], certificate=False) == "Authentication failed, no credentials provided"
    assert attempted(["Basic x"], certificate=True) == "Authentication failed, attempted: basic, x509"


JANE = User("jane", groups=("dev",))


def decided(info: RequestInfo, *rules: dict[str, Any], user: User | None = JANE) -> str:
    return policy.build(written(*rules)).decide(user, info).level


def test_rules_match_by_user_verb_resource_name_and_path() -> None:
    log = RequestInfo("get", "", True, "", "v1", "pods", "log", "default", "web")
    metadata = {"level": "Metadata"}
    assert decided(log, metadata) == "Metadata"
    assert decided(log) == "None"
    for field, matching, other in (
        ("users", ["jane"], ["joe"]),
        ("userGroups", ["dev"], ["ops"]),
        ("verbs", ["get"], ["list"]),
        ("namespaces", ["default"], ["other"]),
        ("resources", [{"group": "", "resources": ["pods/log"]}], [{"group": "", "resources": ["pods"]}]),
        ("resources", [{"group": "", "resources": ["pods/*"]}], [{"group": "apps"}]),
        (
            "resources",
            [{"resources": ["*/log"], "resourceNames": ["web"]}],
            [{"resources": ["*"], "resourceNames": ["x"]}],
        ),
    ):
        assert decided(log, {**metadata, field: matching}) == "Metadata"
        assert decided(log, {**metadata, field: other}) == "None"
    assert decided(log, {**metadata, "users": ["jane"]}, user=None) == "None"
    path = RequestInfo("get", "/healthz/etcd")
    assert decided(path, {**metadata, "nonResourceURLs": ["/healthz*"]}) == "Metadata"
    assert decided(path, {**metadata, "nonResourceURLs": ["/metrics"]}) == "None"
    assert decided(path, {**metadata, "resources": [{"group": ""}]}) == "None"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "rules[0].level: Required value"),
        ({"level": "All"}, 'rules[0].level: Unsupported value: "All"'),
        ({"level": "None", "nonResourceURLs": ["x"]}, "must begin with a '/' character"),
        ({"level": "None", "nonResourceURLs": ["/*/x"]}, "must be the final character of the rule"),
        ({"level": "None", "resources": [{"group": "apps/v1"}]}, "rules[0].resources.group: Invalid value"),
        (
            {"level": "None", "resources": [{"resourceNames": ["x"]}]},
            "using resourceNames requires at least one resource",
        ),
        ({"level": "None", "omitStages": ["Late"]}, "allowed stages are RequestReceived"),
        ({"level": "None", "nonResourceURLs": ["/x"], "namespaces": ["y"]}, "rules cannot apply to both"),
    ],
)
def test_a_wrong_policy_is_told(tmp_path: Path, rule: dict[str, Any], told: str) -> None:
    assert told in "; ".join(str(error) for error in policy.check(written(rule)))
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(written(rule)))
    with pytest.raises(SettingsError, match="--audit-policy-file"):
        policy.load(str(file))


def test_files_are_rotated_by_size_and_kept_by_number_and_age(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    path = tmp_path / "logs" / "audit.log"
    log = LogFile(str(path), Rotation(max_megabytes=1, max_backups=2, max_age_days=10, compress=False), lambda: now[0])
    line = b"x" * 600_000 + b"\n"
    for _ in range(5):
        log.write(line)
        now[0] += timedelta(days=1)
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["audit-2026-01-04T00-00-00.000.log", "audit-2026-01-05T00-00-00.000.log", "audit.log"]
    assert path.stat().st_mode & 0o777 == 0o600
    now[0] += timedelta(days=30)
    log.write(line)
    assert sorted(p.name for p in path.parent.iterdir()) == ["audit-2026-02-05T00-00-00.000.log", "audit.log"]
    log.close()
    with pytest.raises(SettingsError, match="--audit-log-path"):
        LogFile(str(tmp_path), Rotation(), lambda: now[0])


def test_addresses_of_proxies_come_first() -> None:
    assert source_ips("10.0.0.1, junk, 10.0.0.2", "10.9.9.9", "192.0.2.1") == ["10.0.0.1", "10.0.0.2", "192.0.2.1"]
    assert source_ips("", "10.9.9.9", "192.0.2.1") == ["10.9.9.9", "192.0.2.1"]
    assert source_ips("", "", "::1") == ["::1"]


def test_managed_fields_are_left_out_everywhere() -> None:
    owned = {"metadata": {"name": "a", "managedFields": []}}
    bare = {"metadata": {"name": "a"}}
    assert without_managed_fields({"items": [owned], "metadata": {}}) == {"items": [bare], "metadata": {}}
    assert without_managed_fields({"rows": [{"object": owned}]}) == {"rows": [{"object": bare}]}
    assert without_managed_fields([1]) == [1]


async def test_events_are_sent_to_a_webhook_in_batches(tmp_path: Path) -> None:
    lists: asyncio.Queue[Any] = asyncio.Queue()

    async def receive(request: web.BaseRequest) -> web.Response:
        lists.put_nowait(await request.json())
        return web.Response(text="thanks")

    receiver = web.ServerRunner(web.Server(receive))
    await receiver.setup()
    await web.TCPSite(receiver, "127.0.0.1", 0).start()
    host, port = receiver.addresses[0][:2]
    named = {"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c"}}]}
    config = tmp_path / "webhook.yaml"
    config.write_text(json.dumps(named | {"clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}]}))
    (tmp_path / "policy.yaml").write_text(json.dumps(written({"level": "Metadata", "verbs": ["create"]})))
    settings = Settings(
        audit_policy_file=str(tmp_path / "policy.yaml"),
        audit_webhook_config_file=str(config),
        audit_webhook_batch_max_size=4,
    )
    async with running_apiserver(settings) as server:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()))
        headers = {"Authorization": f"Bearer {server.token}"}
        async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:
            for name in "abc":  # two events each
                async with client.post(MAPS, json={"metadata": {"name": name}}):
                    pass
            first = await lists.get()
    assert (first["kind"], first["apiVersion"], len(first["items"])) == ("EventList", "audit.k8s.io/v1", 4)
    assert [event["stage"] for event in first["items"]] == ["RequestReceived", "ResponseComplete"] * 2
    assert len((await lists.get())["items"]) == 2  # what was left when the server ended
    await receiver.cleanup()
