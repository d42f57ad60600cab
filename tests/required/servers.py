"""Pods that serve and pods that ask: netexec.py in the image of the cluster's own components."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster, eventually, pod
from components import python

from machinery.api.catalogue import NODES
from machinery.api.meta import Object, name_of

_PROGRAM = Path(__file__).with_name("netexec.py").read_text()
HTTP_PORT, UDP_PORT = 8080, 8081


async def server(cluster: Cluster, options: Object | None = None, **fields: Any) -> Object:
    """A container that serves; by default HTTP on HTTP_PORT and UDP on UDP_PORT. It is ready when HTTP answers."""
    serving = options or {"http": [HTTP_PORT], "udp": [UDP_PORT]}
    ports = serving.get("http") or [int(port) for port in serving.get("texts", ())]
    probe = {"readinessProbe": {"httpGet": {"port": ports[0]}, "periodSeconds": 1}} if ports else {}
    return await python(cluster, _PROGRAM, "serve", json.dumps(serving), name="serve", **(probe | fields))


@dataclass(frozen=True, slots=True)
class Asker:
    """A pod from which others are asked."""

    cluster: Cluster
    name: str

    async def dial(self, url: str, times: int = 1, source: str = "") -> list[str | None]:
        """What `times` requests were answered; None: not within three seconds."""
        answers: list[str | None] = await self._run("dial", {"url": url, "times": times, "source": source})
        return answers

    async def reaches(self, url: str, wanted: set[str], *, seconds: float = 60) -> None:
        """Ask until all that are wanted have answered. Raises AssertionError when another did."""
        seen: set[str] = set()

        async def all_seen() -> bool:
            seen.update(each for each in await self.dial(url, len(wanted) * 2) if each is not None)
            assert seen <= wanted, f"{url} was answered by {seen}, not {wanted}"
            return seen == wanted

        await eventually(all_seen, f"{url} answered by all of {wanted}", seconds)

    async def resolve(self, *questions: tuple[str, str]) -> list[tuple[list[str], list[str]]]:
        """What the pod's name server answers to (name, type): over UDP and over TCP."""
        return [(over_udp, over_tcp) for over_udp, over_tcp in await self._run("resolve", questions)]

    async def _run(self, what: str, options: Any) -> Any:
        told = await self.cluster.exec(self.name, "python3", "-c", _PROGRAM, what, json.dumps(options))
        return json.loads(told)


async def asker(cluster: Cluster, name: str = "asks", **spec: Any) -> Asker:
    """A running pod to ask from."""
    await cluster.start(pod(name, await python(cluster, "import signal; signal.pause()"), **spec))
    return Asker(cluster, name)


async def node_addresses(cluster: Cluster) -> dict[str, str]:
    """Internal addresses by node."""
    found = (await cluster.client.list(NODES)).items
    return {  # nodes that other tests have made up have none
        name_of(node): each["address"]
        for node in found
        for each in node["status"].get("addresses") or ()
        if each["type"] == "InternalIP"
    }
