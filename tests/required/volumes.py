"""Volumes that hold what the API holds: config maps, secrets and the pod's own fields, each by itself or projected."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from cluster import Cluster, eventually

from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

AT = "/etc/volume"
"""Where the tests mount a volume."""
REFRESH_SECONDS = 150.0
"""A kubelet has a minute and a bit of jitter to see to a pod again, and its cache may be a minute old."""


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of volume."""

    field: str
    projected: bool = False

    @property
    def resource(self) -> ResourceType:
        return SECRETS if self.field == "secret" else CONFIGMAPS

    def volume(self, of: str = "", *, named: str = "v", mode: int | None = None, **fields: Any) -> Object:
        """A volume of this kind, of the object of that name; the mode is that of all its files."""
        name = {"secretName" if self.field == "secret" and not self.projected else "name": of} if of else {}
        default = {} if mode is None else {"defaultMode": mode}
        if self.projected:
            return {"name": named, "projected": {"sources": [{self.field: {**name, **fields}}], **default}}
        return {"name": named, self.field: {**name, **default, **fields}}

    async def hold(self, cluster: Cluster, name: str, **data: str) -> Object:
        """Make an object with these data, their keys with _ for -."""
        return await cluster.create(self.resource, {"metadata": {"name": name}, "data": self.data(**data)})

    def data(self, **data: str) -> dict[str, str]:
        """Data as such an object has them."""
        encode = _base64 if self.field == "secret" else str
        return {key.replace("_", "-"): encode(value) for key, value in data.items()}


CONFIGMAP, SECRET, DOWNWARD = Source("configMap"), Source("secret"), Source("downwardAPI")
PROJECTED_CONFIGMAP, PROJECTED_SECRET = Source("configMap", projected=True), Source("secret", projected=True)
PROJECTED_DOWNWARD = Source("downwardAPI", projected=True)


def mount(path: str = AT, name: str = "v", **fields: Any) -> Object:
    return {"name": name, "mountPath": path, **fields}


def tell(path: str) -> str:
    """A script that tells the mode of a file (of what it leads to) and its content."""
    return f"stat -L -c %A {path} && cat {path}"


def repeat(path: str) -> str:
    """A script that tells what is in a file, or that there is none, over and over."""
    return f"while :; do cat {path} 2>&1 && echo || echo missing; sleep 0.2; done"


async def says(cluster: Cluster, pod: str, container: str, text: str) -> None:
    """Wait until a container's log has a text."""

    async def told() -> bool:
        return text in await cluster.log(pod, container)

    await cluster.pod_that(pod, lambda found: found["status"].get("phase") == "Running", "runs")
    await eventually(told, f"{text!r} in the log of {pod}'s {container}", REFRESH_SECONDS)


async def says_last(cluster: Cluster, pod: str, container: str, text: str) -> None:
    """Wait until a text is what a container's log ends with."""

    async def told() -> bool:
        return (await cluster.log(pod, container, "--tail=1")).strip() == text

    await eventually(told, f"{text!r} at the end of the log of {pod}'s {container}", REFRESH_SECONDS)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
