"""The checkpoint API: a running container's state is written to an archive on the node.

Source: Kubelet Checkpoint API (KEP-2008); kubelet's server.go (checkpoint) and kubelet.go (CheckpointContainer).
"""

from __future__ import annotations

import os
from datetime import datetime

from aiohttp import web

from agent.cri.errors import CriError
from agent.kubelet.container.model import RUNNING
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from agent.kubelet.pods.manager import PodManager
from machinery.api import meta

DIRECTORY = "checkpoints"


class Checkpoints:
    """Serves POST /checkpoint/{namespace}/{pod}/{container}."""

    def __init__(self, kit: Kit, manager: PodManager) -> None:
        self._kit, self._manager = kit, manager

    async def make(self, request: web.Request) -> web.Response:
        """Checkpoint one container; the answer names the archive."""
        namespace, pod_name, name = (request.match_info[part] for part in ("namespace", "pod", "container"))
        worker = self._manager.find(namespace, pod_name)
        if worker is None:
            return _refused(404, "pod does not exist")
        if spec.find_container(worker.pod, name) is None:
            return _refused(404, f"container {name} does not exist")
        texts = request.query.getall("timeout", [])
        try:
            timeout = int(texts[-1]) if texts else 0
        except ValueError:
            return _refused(404, "cannot parse value of timeout parameter")
        where = f"{namespace}/{pod_name}/{name}"
        if timeout < 0:
            told = "CheckpointContainer requires the timeout value to be > 0"
            return _refused(500, f"checkpointing of {where} failed ({told})")
        status = self._kit.view.pod(worker.uid).container(name)
        if status is None or status.state != RUNNING:
            return _refused(500, f"checkpointing of {where} failed (container {name} not found)")
        location = self._location(f"{meta.name_of(worker.pod)}_{namespace}", name)
        try:
            await self._kit.cri.checkpoint_container(status.id, location, timeout)
        except CriError as error:
            return _refused(500, f"checkpointing of {where} failed ({error})")
        return web.json_response({"items": [location]})

    def _location(self, pod: str, container: str) -> str:
        now = datetime.now().astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")
        return os.path.join(self._kit.root_dir, DIRECTORY, f"checkpoint-{pod}-{container}-{now}.tar")


def _refused(status: int, message: str) -> web.Response:
    return web.Response(status=status, text=message)
