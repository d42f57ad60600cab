"""kubernetes-asyncio, used as its users do. Arguments: NAMESPACE."""

from __future__ import annotations

import asyncio
import sys

from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.dynamic import DynamicClient

namespace = sys.argv[1]


async def main() -> None:
    await config.load_kube_config()
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        pod = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}}
        await core.create_namespaced_pod(namespace, pod)
        async with watch.Watch() as watcher:
            async for event in watcher.stream(core.list_namespaced_pod, namespace, timeout_seconds=30):
                if event["object"].status.phase == "Running":
                    break
        names = [f"cm-{i}" for i in range(50)]
        await asyncio.gather(
            *(core.create_namespaced_config_map(namespace, {"metadata": {"name": name}}) for name in names)
        )
        found = await core.list_namespaced_config_map(namespace, limit=20)
        assert len(found.items) == 20
        assert found.metadata.remaining_item_count == 31
        patched = await core.patch_namespaced_config_map("cm-0", namespace, {"data": {"a": "b"}})
        assert patched.data == {"a": "b"}
        try:
            await core.read_namespaced_config_map("none", namespace)
            raise AssertionError("found what is not there")
        except ApiException as exc:
            assert exc.status == 404
        nodes = await (await DynamicClient(api)).resources.get(api_version="v1", kind="Node")
        assert len((await nodes.get()).items) >= 1
        eviction = {"metadata": {"name": "web", "namespace": namespace}}
        await core.create_namespaced_pod_eviction("web", namespace, eviction)
        async with watch.Watch() as watcher:
            async for _ in watcher.stream(core.list_namespaced_pod, namespace, timeout_seconds=30):
                if not (await core.list_namespaced_pod(namespace)).items:
                    break


asyncio.run(main())
print("kubernetes-asyncio: ok", flush=True)
