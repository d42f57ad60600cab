"""What the manager serves: health by controller name to all, metrics and settings to those who may."""

from __future__ import annotations

import ssl

import aiohttp
from controller_programs import TOKEN, running_plane, stands_by, until


async def test_health_is_for_all_and_metrics_for_those_who_may() -> None:
    async with running_plane() as plane:
        manager = plane.add_manager("--controllers=deployment,replicaset,namespace")
        await manager.start()
        await until(lambda: stands_by(manager), 30)
        port = next(a for a in manager.arguments if a.startswith("--secure-port=")).partition("=")[2]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession() as session:

            async def get(path: str, token: str = "") -> tuple[int, str]:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                url = f"https://127.0.0.1:{port}{path}"
                async with session.get(url, ssl=context, headers=headers) as response:
                    return response.status, await response.text()

            async def controls() -> bool:
                return "[+]deployment-controller ok" in (await get("/healthz?verbose"))[1]

            await until(controls, 20)
            status, told = await get("/healthz?verbose")
            assert status == 200
            for name in ("leaderElection", "deployment-controller", "replicaset-controller", "namespace-controller"):
                assert f"[+]{name} ok" in told
            assert (await get("/healthz/deployment-controller"))[0] == 200
            assert (await get("/metrics", "nonsense"))[0] == 401
            status, told = await get("/metrics", TOKEN)
            assert status == 200
            for line in (
                'leader_election_master_status{name="kube-controller-manager"} 1.0',
                'running_managed_controllers{manager="kube-controller-manager",name="deployment-controller"} 1.0',
                'workqueue_depth{name="deployment"}',
                'workqueue_unfinished_work_seconds{name="deployment"}',
                'workqueue_longest_running_processor_seconds{name="deployment"}',
                'workqueue_queue_duration_seconds_count{name="deployment"}',
                'workqueue_retries_total{name="deployment"}',
                'rest_client_requests_total{code="200"',
            ):
                assert line in told
            status, told = await get("/configz", TOKEN)
            assert status == 200
            assert '"kubecontrollermanager.config.k8s.io"' in told
