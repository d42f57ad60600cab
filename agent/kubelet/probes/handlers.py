"""Doing a probe or a hook once: exec, HTTP, TCP, gRPC.

Source: kubelet's probe package and lifecycle handlers; Container API, Probe and LifecycleHandler.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from agent.cri import health
from agent.cri.client import CriClient
from agent.cri.errors import CriError, CriTimeout
from agent.kubelet.probes.tls import Contexts
from machinery.api.meta import Object

MAX_BODY_BYTES = 10 * 1024
_MAX_REDIRECTS = 10
_VERSION = "1.36"

SUCCESS, FAILURE, WARNING, UNKNOWN = "success", "failure", "warning", "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe found; `output` is for the user."""

    result: str
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether it counts as a success."""
        return self.result in (SUCCESS, WARNING)


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed."""

    pod: Object
    container: Object
    container_id: str
    pod_ip: str


class Handlers:
    """Runs handlers. One for the whole kubelet; `await close()` at the end."""

    def __init__(self, cri: CriClient) -> None:
        self._cri = cri
        self._session: aiohttp.ClientSession | None = None
        self._tls = Contexts()

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def run(self, handler: Object, target: Target, timeout_seconds: float) -> Outcome:
        """Do what a probe's handler says."""
        if handler.get("exec"):
            return await self._exec(handler["exec"], target, timeout_seconds)
        try:
            if handler.get("httpGet"):
                return await self._http(handler["httpGet"], target, timeout_seconds)
            if handler.get("tcpSocket"):
                return await self._tcp(handler["tcpSocket"], target, timeout_seconds)
            if handler.get("grpc"):
                return await self._grpc(handler["grpc"], target, timeout_seconds)
        except ValueError as error:
            return Outcome(UNKNOWN, str(error))
        return Outcome(UNKNOWN, "missing probe handler")

    async def exec_hook(self, action: Object, target: Target) -> tuple[str, str] | None:
        """Run a hook's command, however long that takes; if it fails (what went wrong, what it said)."""
        command = _command(action)
        try:
            answer = await self._cri.exec_sync(target.container_id, command, 0)
        except CriError as error:
            return str(error), ""
        if answer.exit_code == 0:
            return None
        said = answer.stderr.decode(errors="replace")
        told = f"command '{' '.join(command)}' exited with {answer.exit_code}: {said}"
        return told, (answer.stdout + answer.stderr).decode(errors="replace")

    async def http_hook(self, action: Object, target: Target) -> tuple[str | None, bool]:
        """Make a hook's request: (None, or why there was no answer; whether HTTP had to take the place of HTTPS).

        Whatever is answered is well: a hook is a message, not a question.
        """
        url, headers = http_request(action, target, "lifecycle")
        try:
            await self._get(url, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if not (url.startswith("https:") and "WRONG_VERSION_NUMBER" in str(error)):
                return _failure(url, error), False
            headers.pop("Authorization", None)
            try:
                await self._get(url.replace("https:", "http:", 1), headers)
            except (aiohttp.ClientError, OSError, ValueError):
                return _failure(url, error), False
            return None, True
        return None, False

    async def _exec(self, action: Object, target: Target, timeout_seconds: float) -> Outcome:
        command = _command(action)
        try:
            answer = await self._cri.exec_sync(target.container_id, command, timeout_seconds)
        except CriTimeout:
            return Outcome(FAILURE, f'command timed out: "{" ".join(command)}" timed out after {timeout_seconds:g}s')
        except CriError as error:
            return Outcome(UNKNOWN, str(error))
        output = (answer.stdout + answer.stderr)[:MAX_BODY_BYTES].decode(errors="replace")
        return Outcome(SUCCESS if answer.exit_code == 0 else FAILURE, output)

    async def _tcp(self, action: Object, target: Target, timeout_seconds: float) -> Outcome:
        host, port = action.get("host") or target.pod_ip, find_port(action["port"], target.container)
        try:
            async with asyncio.timeout(timeout_seconds):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Outcome(FAILURE, f"dial tcp {joined(host, port)}: i/o timeout")
        except OSError as error:
            return Outcome(FAILURE, f"dial tcp {joined(host, port)}: {_reason(error)}")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Outcome(SUCCESS)

    async def _grpc(self, action: Object, target: Target, timeout_seconds: float) -> Outcome:
        address = joined(target.pod_ip, int(action["port"]))
        status, detail = await health.check(address, action.get("service") or "", timeout_seconds)
        if status == "SERVING":
            return Outcome(SUCCESS, "service healthy")
        if status:
            return Outcome(FAILURE, f'service unhealthy (responded with "{status}")')
        return Outcome(FAILURE, detail)

    async def _http(self, action: Object, target: Target, timeout_seconds: float) -> Outcome:
        url, headers = http_request(action, target, "probe")
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._get(url, headers)
        except TimeoutError:
            told = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return Outcome(FAILURE, f'Get "{url}": {told}')
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(FAILURE, _failure(url, error))

    async def _get(self, url: str, headers: CIMultiDict[str]) -> Outcome:
        host = urlsplit(url).hostname
        for _ in range(_MAX_REDIRECTS):
            peer = URL(url)
            tls = self._tls.of(peer.host or "", peer.port or 443) if peer.scheme == "https" else True
            async with self._open().get(url, headers=headers, allow_redirects=False, ssl=tls) as response:
                location = response.headers.get("Location")
                if location and response.status in (301, 302, 303, 307, 308):
                    url = str(response.url.join(URL(location)))
                    if urlsplit(url).hostname == host:
                        continue
                body = await _body(response)
                if 300 <= response.status < 400:
                    return Outcome(WARNING, f"Probe terminated redirects, Response body: {body}")
                if 200 <= response.status < 300:
                    return Outcome(SUCCESS, body)
                return Outcome(FAILURE, f"HTTP probe failed with statuscode: {response.status}")
        return Outcome(FAILURE, f'Get "{url}": stopped after {_MAX_REDIRECTS} redirects')

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Each probe has a connection of its own: a kept one says nothing about new ones.
            connector = aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=10)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                timeout=aiohttp.ClientTimeout(total=None),  # it is for the caller to say
            )
        return self._session


def _command(action: Object) -> list[str]:
    return [str(part) for part in action.get("command") or ()]


def _failure(url: str, error: Exception) -> str:
    """Why there was no answer, as Go's HTTP client tells it."""
    why = str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        peer = urlsplit(url)
        port = peer.port or (443 if peer.scheme == "https" else 80)
        why = f"dial tcp {joined(peer.hostname or '', port)}: {_reason(error.os_error)}"
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        why = "EOF"
    return f'Get "{url}": {why}'


async def _body(response: aiohttp.ClientResponse) -> str:
    return (await response.content.read(MAX_BODY_BYTES)).decode(errors="replace")


def http_request(action: Object, target: Target, purpose: str) -> tuple[str, CIMultiDict[str]]:
    """URL and headers of an httpGet for a probe or in a container's lifecycle, which the User-Agent tells.

    Raises ValueError for a port that has no number.
    """
    scheme = (action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.pod_ip
    path = action.get("path") or "/"
    if not path.startswith("/"):
        path = "/" + path
    headers: CIMultiDict[str] = CIMultiDict()
    for header in action.get("httpHeaders") or ():
        headers.add(header["name"], header["value"])
    headers.setdefault("User-Agent", f"kube-{purpose}/{_VERSION}")
    headers.setdefault("Accept", "*/*")
    headers["Connection"] = "close"
    for name in [name for name, value in headers.items() if name.lower() in ("accept", "user-agent") and not value]:
        headers.pop(name, None)  # an empty value asks for no such header
    return f"{scheme}://{joined(host, find_port(action['port'], target.container))}{path}", headers


def find_port(port: int | str, container: Object) -> int:
    """A port by number, or by its name among the container's ports. Raises ValueError."""
    if isinstance(port, int):
        number = port
    elif port.isdigit():
        number = int(port)
    else:
        named = next((p for p in container.get("ports") or () if p.get("name") == port), None)
        if named is None:
            raise ValueError(f"couldn't find port: {port}")
        number = named["containerPort"]
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return int(number)


def joined(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError | None) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    text = (error.strerror or str(error)) if error is not None else "connection failed"
    return f"connect: {text[:1].lower()}{text[1:]}"
