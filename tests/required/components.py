"""The image of the lab's components, which runs Python with what they depend on."""

from __future__ import annotations

from typing import Any

from cluster import Cluster, container

from machinery.api.catalogue import DAEMONSETS
from machinery.api.meta import Object


async def python_image(cluster: Cluster) -> str:
    """The image of kube-proxy's pods."""
    found = await cluster.client.get(DAEMONSETS, "kube-proxy", "kube-system")
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def python(cluster: Cluster, script: str, *argv: str, **fields: Any) -> Object:
    """A container that runs a script in Python."""
    return container("/usr/bin/python3.11", "-c", script, *argv, image=await python_image(cluster), **fields)
