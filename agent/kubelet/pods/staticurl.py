"""Static pods of a web server: one manifest, or a list of them, asked for every so often.

Source: kubelet's config/http.go; KubeletConfiguration staticPodURL, staticPodURLHeader, httpCheckFrequency.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping

import aiohttp
from aiohttp import ClientError
from multidict import CIMultiDict

from agent.kubelet.pods.staticpods import to_static_pod
from agent.kubelet.settings import Settings
from machinery.api import meta
from machinery.api.meta import Object
from machinery.client.bodies import read_up_to
from machinery.clock import Clock
from machinery.errors import SettingsError
from machinery.log import get_logger
from machinery.settings import parse_yaml

log = get_logger(__name__)

_TIMEOUT_SECONDS = 10.0
_MOST_BYTES = 10 << 20


class StaticUrl:
    """The pods that one address names. `on_change(pods by uid)` is called with all of them when any changed."""

    def __init__(
        self, settings: Settings, node_name: str, clock: Clock, on_change: Callable[[Mapping[str, Object]], None]
    ) -> None:
        self._url = settings.static_pod_url
        self._headers = CIMultiDict((n, v) for n, vs in settings.static_pod_url_headers.items() for v in vs)
        self._period_seconds = settings.url_check_seconds
        self._node_name, self._clock, self._on_change = node_name, clock, on_change
        self._seen: bytes | None = None
        self._told = ""

    async def run(self) -> None:
        """Ask every period until cancelled; when there is no good answer, what was said before goes on."""
        while True:
            try:
                await self.look()
                self._told = ""
            except (SettingsError, ClientError, OSError, TimeoutError) as error:
                self._tell(str(error) or type(error).__name__)
            await self._clock.sleep(self._period_seconds)

    async def look(self) -> None:
        """Ask once. Raises SettingsError for an answer that can't be used, ClientError where there is none."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self._url, headers=self._headers, ssl=ssl.create_default_context()) as response,
        ):
            content = await read_up_to(response.content, _MOST_BYTES + 1)
            status = f"{response.status} {response.reason}"
            if response.status != 200:
                raise SettingsError(f"{self._url}: {status}")
        if not content:
            self._seen = content
            self._on_change({})  # as upstream: nothing said means no pods, and is told
            raise SettingsError(f"zero-length data received from {self._url}")
        if len(content) > _MOST_BYTES:
            raise SettingsError(f"{self._url}: more than {_MOST_BYTES} bytes")
        if content == self._seen:
            return
        now = meta.format_time(self._clock.now())
        pods = [to_static_pod(d, self._url, self._node_name, now, "http") for d in self._documents(content)]
        self._seen = content
        self._on_change({meta.uid_of(pod): pod for pod in pods})

    def _documents(self, content: bytes) -> Iterable[Object]:
        documents = parse_yaml(content.decode("utf-8", errors="replace"), self._url)
        if len(documents) != 1 or not isinstance(documents[0], dict):
            raise SettingsError(f"{self._url}: one Pod or PodList is needed, there are {len(documents)} documents")
        document = documents[0]
        if document.get("kind") in ("PodList", "List"):
            return [{"apiVersion": "v1", "kind": "Pod", **item} for item in document.get("items") or ()]
        return [document]

    def _tell(self, message: str) -> None:
        if message != self._told:
            self._told = message
            log.error("failed to read pods from URL", url=self._url, err=message)
