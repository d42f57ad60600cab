"""Who may read the scheduler's health, metrics and configuration, on a real API server."""

import asyncio
import json
import ssl
from pathlib import Path

import aiohttp
import pytest
from scheduler_lab import kubeconfig

from controlplane.apiserver.authn import factory as authn
from controlplane.apiserver.authz import factory as authz
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import running_apiserver
from controlplane.scheduler.flags import parse
from machinery.serving import HealthServer, self_signed_tls
from machinery.servingguard import ServingGuard

UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


async def answer(port: int, path: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"https://127.0.0.1:{port}{path}", ssl=UNVERIFIED) as response,
    ):
        return response.status, await response.text()


@pytest.mark.parametrize("reviews", [True, False])
async def test_health_is_for_everybody_and_the_rest_for_whom_the_api_server_lets(tmp_path: Path, reviews: bool) -> None:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('masters-token,boss,boss,"system:masters"\njanes-token,jane,jane\n')
    settings = Settings(authorization_modes=("RBAC",), token_auth_file=str(tokens))
    async with running_apiserver(settings, factories=(authn.build, authz.build)) as api:
        config = kubeconfig(tmp_path, api)
        asking = [f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}"] if reviews else []
        flags = parse(asking).flags
        guard = ServingGuard(flags, "kube-scheduler")
        server = HealthServer("127.0.0.1", 0, tls=guard.trust(self_signed_tls()), config=parse([]).shown)
        server.app.middlewares.append(guard.middleware)
        async with guard, server, asyncio.timeout(20):
            for path in ("/healthz", "/livez", "/readyz"):
                assert await answer(server.port, path) == (200, "ok")
            status, text = await answer(server.port, "/metrics")
            assert status == 403
            assert json.loads(text)["message"] == 'forbidden: User "system:anonymous" cannot get path "/metrics"'
            status, text = await answer(server.port, "/metrics", "nobody's")
            assert (status, json.loads(text)["reason"]) == (401, "Unauthorized")
            status, text = await answer(server.port, "/metrics", "masters-token")
            if not reviews:  # without a kubeconfig nobody's token is known
                assert status == 401
                return
            assert status == 200
            assert "# TYPE leader_election_master_status gauge" in text
            assert (await answer(server.port, "/metrics", "janes-token"))[0] == 403
            status, text = await answer(server.port, "/configz", "masters-token")
            shown = json.loads(text)["componentconfig"]
            assert shown["Profiles"][0]["SchedulerName"] == "default-scheduler"
