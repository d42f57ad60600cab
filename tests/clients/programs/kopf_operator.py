"""An operator on kopf: a Shelf has as many ConfigMaps as it says, and tidies up. Run by kopf."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
from kubernetes_asyncio import client, config


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = "kopf.example.com/tidy"
    settings.posting.enabled = True
    await config.load_kube_config()


@kopf.on.create("kopf.example.com", "v1", "shelves")
@kopf.on.update("kopf.example.com", "v1", "shelves", field="spec.books")
async def fill(spec: kopf.Spec, name: str, namespace: str, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        found = await core.list_namespaced_config_map(namespace, label_selector=f"shelf={name}")
        present = {one.metadata.name for one in found.items}
        wanted = {f"{name}-{number}" for number in range(spec["books"])}
        for book in sorted(wanted - present):
            made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": book, "labels": {"shelf": name}}}
            kopf.adopt(made, owner=body)
            await core.create_namespaced_config_map(namespace, made)
        for book in sorted(present - wanted):
            await core.delete_namespaced_config_map(book, namespace)
    patch.status["filled"] = spec["books"]
    kopf.event(body, type="Normal", reason="Filled", message=f"{spec['books']} books")


@kopf.timer("kopf.example.com", "v1", "shelves", interval=0.3)
async def dust(patch: kopf.Patch, status: kopf.Status, **_: Any) -> None:
    patch.status["dusted"] = status.get("dusted", 0) + 1


@kopf.daemon("kopf.example.com", "v1", "shelves")
async def watch_over(stopped: kopf.DaemonStopped, **_: Any) -> None:
    while not stopped:
        await stopped.wait(10)


@kopf.index("configmaps", labels={"shelf": kopf.PRESENT})
async def books(name: str, labels: kopf.Labels, **_: Any) -> dict[str, str]:
    return {labels["shelf"]: name}


@kopf.on.delete("kopf.example.com", "v1", "shelves")
async def close(name: str, namespace: str, **_: Any) -> None:
    async with client.ApiClient() as api:
        told = {"metadata": {"name": f"{name}-closed"}}
        await client.CoreV1Api(api).create_namespaced_config_map(namespace, told)
    await asyncio.sleep(0)
