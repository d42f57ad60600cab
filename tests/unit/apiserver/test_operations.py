"""A server under pressure and at its end: floods, time limits, counts, and how it stops."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.bootstrap.reconcile import ensure_priority_and_fairness
from controlplane.apiserver.handlers.contract import Authorize, Extensions, Loopback
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import RunningServer, running_apiserver

MAPS = "/api/v1/namespaces/default/configmaps"
SLOW = f"{MAPS}/one?resourceVersion=999999"  # waits for a revision that does not come
FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"


@asynccontextmanager
async def connected(server: RunningServer, token: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {token or server.token}"}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.ca.decode()), limit=0)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as client:
        yield client


def users(folder: Path, **settings: Any) -> Settings:
    file = folder / "tokens.csv"
    file.write_text("admin-token,admin,1,system:masters\nflood,flood,2\ncalm,calm,3\n")
    return Settings(token_auth_file=str(file), **settings)


@asynccontextmanager
async def three_users(
    settings: Settings,
) -> AsyncIterator[tuple[aiohttp.ClientSession, aiohttp.ClientSession, aiohttp.ClientSession]]:
    """(admin, flood, calm)"""
    async with (
        running_apiserver(settings, factories=(authn.build, configured)) as server,
        connected(server) as admin,
        connected(server, "flood") as flood,
        connected(server, "calm") as calm,
    ):
        yield admin, flood, calm


def configured(settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize) -> Extensions:
    """The levels and schemas that every cluster has."""

    async def produce(api: Loopback, reader: Reader) -> None:
        await ensure_priority_and_fairness(api)

    return Extensions(start_hooks={"priority-and-fairness-config-producer": produce})


async def status(client: aiohttp.ClientSession, path: str) -> int:
    async with client.get(path) as answer:
        await answer.read()
        return answer.status


async def test_a_flood_from_one_user_does_not_starve_others(tmp_path: Path) -> None:
    settings = users(tmp_path, max_requests_inflight=1, max_mutating_requests_inflight=0)
    async with three_users(settings) as (admin, flood, calm):

        async def flooding() -> None:
            while True:
                await status(flood, "/api/v1/pods")

        floods = [asyncio.create_task(flooding()) for _ in range(30)]
        for _ in range(20):
            assert await status(calm, "/api/v1/pods") == 200
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        async with admin.get("/metrics") as answer:
            told = await answer.text()
    waited = re.search(
        r'request_wait_duration_seconds_count\{execute="true",flow_schema="global-default".* (\S+)', told
    )
    assert waited is not None
    assert float(waited[1]) > 100  # there was a crowd


async def test_who_is_refused_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with three_users(users(tmp_path)) as (admin, flood, calm):
        limited = {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
        level = {"metadata": {"name": "tiny"}, "spec": {"type": "Limited", "limited": limited}}
        rule = {
            "subjects": [{"kind": "User", "user": {"name": "flood"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
        }
        schema = {
            "metadata": {"name": "tiny"},
            "spec": {"priorityLevelConfiguration": {"name": "tiny"}, "matchingPrecedence": 50, "rules": [rule]},
        }
        async with admin.post(f"{FLOWS}/flowschemas", json=schema) as answer:
            made = await answer.json()
        assert await dangling(admin) == "True"
        async with admin.post(f"{FLOWS}/prioritylevelconfigurations", json=level) as answer:
            assert answer.status == 201
        assert await dangling(admin) == "False"
        begun = [asyncio.create_task(status(flood, f"{SLOW}&timeout=2s")) for _ in range(12)]
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
        async with flood.get(MAPS) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == made["metadata"]["uid"]
            assert answer.headers["X-Kubernetes-PF-PriorityLevel-UID"]
            assert await answer.text() == "Too many requests, please try again later.\n"
        assert await status(calm, "/api/v1/namespaces/default/pods") == 200
        assert set(await asyncio.gather(*begun)) == {429, 504}
        async with admin.get("/metrics") as answer:
            told = await answer.text()
        assert 'apiserver_flowcontrol_rejected_requests_total{flow_schema="tiny",priority_level="tiny"' in told
        async with admin.get("/debug/api_priority_and_fairness/dump_priority_levels") as answer:
            assert "\ntiny,  " in await answer.text()


async def dangling(client: aiohttp.ClientSession) -> str:
    """The condition of the schema `tiny`, once it is told."""
    seen = ""
    while True:
        async with client.get(f"{FLOWS}/flowschemas/tiny") as answer:
            conditions = (await answer.json()).get("status", {}).get("conditions") or []
        now = next((str(c["status"]) for c in conditions if c["type"] == "Dangling"), "")
        if now and now == seen:
            return now
        seen = now


async def test_without_priority_and_fairness_there_are_two_limits(tmp_path: Path) -> None:
    settings = users(tmp_path, enable_priority_and_fairness=False, max_requests_inflight=2)
    async with three_users(settings) as (admin, flood, _):
        found = await asyncio.gather(*(status(flood, f"{SLOW}&timeout=300ms") for _ in range(5)))
        assert sorted(found) == [429, 429, 429, 504, 504]
        assert await status(admin, "/api/v1/namespaces/default/pods") == 200


async def test_requests_end_in_time() -> None:
    async with running_apiserver(Settings(request_timeout_seconds=0.2)) as server, connected(server) as client:
        async with client.get(SLOW) as answer:
            assert answer.status == 504
            assert await answer.json() == {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": "Timeout: request did not complete within the allotted timeout",
                "reason": "Timeout",
                "details": {},
                "code": 504,
            }
        async with client.get(f"{MAPS}?timeout=soon") as answer:
            assert answer.status == 400
            told = 'invalid timeout specified in the request URL - time: invalid duration "soon"'
            assert (await answer.json())["message"] == told
        async with client.get(f"{MAPS}?watch=1&timeoutSeconds=1") as answer:  # which goes on longer than requests may
            assert answer.status == 200
            await answer.read()


async def test_counts_have_upstreams_names() -> None:
    async with running_apiserver() as server, connected(server) as client:
        async with client.post(MAPS, json={"metadata": {"name": "one"}}):
            pass
        await status(client, MAPS)
        async with client.get(f"{MAPS}?watch=1&resourceVersion=0") as watch:
            await watch.content.readline()
            async with client.get("/metrics") as answer:
                told = await answer.text()
    labels = 'dry_run="",group="",resource="configmaps"'
    for line in (
        f'apiserver_request_total{{code="201",component="apiserver",{labels},scope="resource",subresource="",verb="POST"',
        f'apiserver_request_duration_seconds_count{{component="apiserver",{labels},scope="namespace",subresource="",verb="LIST"',
        'apiserver_longrunning_requests{component="apiserver",group="",resource="configmaps",scope="namespace"',
        'apiserver_current_inflight_requests{request_kind="readOnly"} 1.0',
        'apiserver_watch_events_total{group="",resource="configmaps",version="v1"} 1.0',
        'apiserver_storage_objects{resource="configmaps"} 1.0',
        'apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt",priority_level="exempt"}',
        'apiserver_flowcontrol_nominal_limit_seats{priority_level="catch-all"}',
        'authentication_attempts_total{result="success"}',
        'authorization_attempts_total{result="allowed"}',
        'etcd_request_duration_seconds_count{group="",operation="create",resource="configmaps"} 1.0',
        "process_resident_memory_bytes",
    ):
        assert line in told


async def test_a_server_that_stops_says_so_first_and_finishes_what_it_has_begun() -> None:
    context = running_apiserver(Settings(shutdown_delay_seconds=0.3))
    server = await context.__aenter__()
    async with connected(server) as client, client.get(f"{MAPS}?watch=1&resourceVersion=0") as watch:
        begun = asyncio.create_task(status(client, f"{SLOW}&timeout=500ms"))
        assert await status(client, "/readyz") == 200
        stopping = asyncio.create_task(context.__aexit__(None, None, None))
        while await status(client, "/readyz") == 200:
            pass
        assert await status(client, "/livez") == 200
        assert await status(client, MAPS) == 200  # served as before
        assert await watch.content.read() == b""  # complete
        assert await begun == 504
        await stopping


async def test_a_server_can_refuse_what_comes_while_it_finishes() -> None:
    async with running_apiserver(Settings(shutdown_send_retry_after=True)) as server, connected(server) as client:
        server.server._app.refusing = True
        async with client.get(MAPS) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert answer.headers["Connection"] == "close"
            assert await answer.text() == "The apiserver is shutting down, please try again later.\n"
        assert await status(client, "/livez") == 200


async def test_pages_for_people_tell_state_and_flags() -> None:
    async with running_apiserver(Settings(flags=(("v", "2"),))) as server, connected(server) as client:
        async with client.get("/statusz") as answer:
            told = await answer.text()
            assert answer.content_type == "text/plain"
        assert told.startswith("\nkube-apiserver statusz\nWarning: This endpoint is not meant to be machine parseable")
        assert "\nEmulation version: 1.36\n" in told
        assert " /livez" in told
        async with client.get("/flagz") as answer:
            assert (await answer.text()).endswith("\n\nv=2\n")
        assert await status(client, "/healthz/poststarthook/priority-and-fairness-filter") == 200
        async with client.get("/flagz", headers={"Accept": "application/json"}) as answer:
            assert answer.status == 406


async def test_profiles_tell_what_a_server_does() -> None:
    async with running_apiserver() as server, connected(server) as client:
        async with client.get("/debug/pprof/") as answer:
            assert 'href="profile"' in await answer.text()
        async with client.get("/debug/pprof/goroutine") as answer:
            assert (await answer.text()).startswith("tasks: total ")
        async with client.get("/debug/pprof/heap") as answer:
            assert " dict\n" in await answer.text()
        profile, again = await asyncio.gather(*(client.get("/debug/pprof/profile?seconds=1") for _ in range(2)))
        assert sorted((profile.status, again.status)) == [200, 500]
        assert await status(client, "/debug/pprof/profile?seconds=1000") == 400
        assert await status(client, "/debug/pprof/nothing") == 404
    async with running_apiserver(Settings(profiling=False)) as server, connected(server) as client:
        assert await status(client, "/debug/pprof/") == 404


async def test_health_checks_are_indicators_as_well() -> None:
    async with running_apiserver() as server, connected(server) as client, client.get("/metrics/slis") as answer:
        told = await answer.text()
    assert 'kubernetes_healthcheck{name="etcd",type="livez"} 1.0' in told
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 1.0' in told
