"""Waiting until what runs on a control-plane host is what its manifests say: the step between hosts of an upgrade."""

from __future__ import annotations

import socket
from pathlib import Path

from lab.bootstrap import kubeconfig, manifests, staticfiles
from lab.bootstrap.rooted import inside
from lab.bootstrap.staticpods import CERTIFICATES
from lab.conditions import until_async
from lab.errors import LabError
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object, condition
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.errors import NotFound, StatusError, TransportError

_SECONDS = 300.0


async def wait(root: Path) -> None:
    """Return when all static pods of this host run as their manifests say and its Node is ready. Raises LabError."""
    node = socket.gethostname()
    wanted = {pod.name: staticfiles.read(root, pod.name) for pod in staticfiles.present(root)}
    told = ""

    async with Client(
        ClientConfig.from_kubeconfig(inside(root, kubeconfig.ADMIN.file)), user_agent="navarch"
    ) as client:

        async def settled() -> bool:
            nonlocal told
            try:
                told = await _unsettled(client, node, wanted)
            except (TransportError, StatusError) as exc:
                told = str(exc)
            return not told

        try:
            await until_async(settled, _SECONDS, every_seconds=0.5)
        except TimeoutError as exc:
            raise LabError(f"not within {_SECONDS:g} s: {told}") from exc


async def _unsettled(client: Client, node: str, wanted: dict[str, Object]) -> str:
    """ "" when all is as it should be; else what is not."""
    for name, manifest in wanted.items():
        try:
            pod = await client.get(PODS, f"{name}-{node}", manifests.SYSTEM)
        except NotFound:
            return f"pod {name}-{node} is not there"
        if missing := difference(manifest, pod):
            return f"pod {name}-{node}: {missing}"
    ready = condition((await client.get(NODES, node)).get("status", {}).get("conditions"), "Ready") or {}
    return "" if ready.get("status") == "True" else f"node {node} is not ready"


def difference(manifest: Object, pod: Object) -> str:
    """ "" when the pod is of this manifest and ready; else what is not so."""
    said, found = manifest["spec"]["containers"][0], pod["spec"]["containers"][0]
    for field in ("image", "command"):
        if found.get(field) != said.get(field):
            return f"its {field} is not the manifest's yet"
    if _digest(pod) != _digest(manifest):
        return "its certificates are not those of the manifest yet"
    ready = condition(pod.get("status", {}).get("conditions"), "Ready") or {}
    return "" if ready.get("status") == "True" else "it is not ready"


def _digest(pod: Object) -> str | None:
    digest: str | None = (pod["metadata"].get("annotations") or {}).get(CERTIFICATES)
    return digest
