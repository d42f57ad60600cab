"""The kubelet's HTTPS server: logs, exec, attach, port-forward, pods, metrics, statistics.

Source: kubelet's server/server.go; API server's pod subresources, which come here.
"""

from __future__ import annotations

import mimetypes
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from agent.cri import api_pb2 as pb
from agent.cri.errors import CriError
from agent.kubelet.container import logfile
from agent.kubelet.container.logfile import LogError, LogOptions
from agent.kubelet.container.model import CREATED, RUNNING, Container
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from agent.kubelet.pods.manager import PodManager
from agent.kubelet.server import figures, streaming
from agent.kubelet.server.authn import Guard
from agent.kubelet.server.checkpoint import Checkpoints
from agent.kubelet.server.counting import counted
from agent.kubelet.server.statistics import Statistics
from machinery.api import meta
from machinery.api.meta import Object, parse_time
from machinery.errors import SettingsError
from machinery.log import get_logger
from machinery.settings import boolean

log = get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOGS_DIR = "/var/log"


class KubeletServer:
    """Serves port 10250. Use as an async context manager."""

    def __init__(
        self,
        kit: Kit,
        manager: PodManager,
        guard: Guard,
        statistics: Statistics,
        configuration: Mapping[str, Any],
        tls: ssl.SSLContext,
    ) -> None:
        self._kit = kit
        self._manager = manager
        self._guard = guard
        self._statistics = statistics
        self._configuration = configuration
        self._tls = tls
        self._runners: list[web.AppRunner] = []
        self._checkpoints = Checkpoints(kit, manager)
        self.port = kit.settings.port
        self.app = web.Application(middlewares=[self._guarded])
        self._add_routes()

    def _add_routes(self) -> None:
        route = self.app.router.add_route
        self._add_public_routes(self.app)
        route("GET", "/configz", self._configz)
        if not self._kit.settings.debugging_handlers:
            return
        route("GET", "/runningpods/", self._running_pods)
        route("POST", "/checkpoint/{namespace}/{pod}/{container}", self._checkpoints.make)
        route("GET", "/containerLogs/{namespace}/{pod}/{container}", self._container_logs)
        for verb in ("GET", "POST"):
            for uid in ("", "/{uid}"):
                route(verb, f"/exec/{{namespace}}/{{pod}}{uid}/{{container}}", self._exec)
                route(verb, f"/attach/{{namespace}}/{{pod}}{uid}/{{container}}", self._attach)
                route(verb, f"/portForward/{{namespace}}/{{pod}}{uid}", self._port_forward)
        for uid in ("", "/{uid}"):
            route("POST", f"/run/{{namespace}}/{{pod}}{uid}/{{container}}", self._run)
        if self._kit.settings.system_log_handler:
            route("GET", "/logs/{path:.*}", self._logs)

    def _add_public_routes(self, app: web.Application) -> None:
        """What the read-only port serves, too."""
        route = app.router.add_route
        route("GET", "/healthz", self._healthz)
        route("GET", "/healthz/{check}", self._healthz)
        route("GET", "/pods", self._pods)
        route("GET", "/metrics", self._metrics)
        for path, handler in self._statistics.routes().items():
            route("GET", path, handler)

    async def __aenter__(self) -> Self:
        """Bind and serve. Raises SettingsError when the address is not to be had."""
        settings = self._kit.settings
        self.port = await self._serve(self.app, settings.port, self._tls)
        if settings.read_only_port:
            public = web.Application(middlewares=[_counted_only])
            self._add_public_routes(public)
            await self._serve(public, settings.read_only_port, None)
        return self

    async def _serve(self, app: web.Application, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen on a port; the one that it came to be. Raises SettingsError."""
        address = self._kit.settings.address
        runner = web.AppRunner(app, access_log=None, handle_signals=False, auto_decompress=False)
        self._runners.append(runner)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port, ssl_context=tls, shutdown_timeout=1.0, reuse_port=False).start()
        except OSError as error:
            await self._clean_up()
            raise SettingsError(f"cannot listen on {address}:{port}: {error.strerror}") from error
        return int(runner.addresses[0][1])

    async def _clean_up(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clean_up()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with counted(request, "readwrite"):
            refusal = await self._guard.check(request)
            return refusal if refusal is not None else await handler(request)

    # -- simple ones -------------------------------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.Response:
        if not self._kit.view.is_fresh:
            return web.Response(status=500, text=f"[-]pleg failed: {self._kit.view.look_error}\nhealthz check failed\n")
        return web.Response(text="ok")

    async def _pods(self, request: web.Request) -> web.Response:
        items = []
        for pod in self._manager.pods:
            status = self._kit.statuses.get(meta.uid_of(pod)) or pod.get("status") or {}
            items.append({k: v for k, v in pod.items() if k not in ("kind", "apiVersion")} | {"status": status})
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _running_pods(self, request: web.Request) -> web.Response:
        items = []
        for runtime in self._kit.view.pods.values():
            running = [c for c in runtime.containers if c.state == RUNNING]
            if running:
                metadata = {"name": runtime.name, "namespace": runtime.namespace, "uid": runtime.uid}
                containers = [{"name": c.name, "image": c.image, "resources": {}} for c in running]
                items.append({"metadata": metadata, "spec": {"containers": containers}, "status": {}})
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    async def _metrics(self, request: web.Request) -> web.Response:
        text = figures.exposition(self._kit, self._manager)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _configz(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps({"kubeletconfig": self._configuration}), content_type="application/json")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """Files of the host's /var/log, and nothing else."""
        wanted = os.path.realpath(os.path.join(_LOGS_DIR, request.match_info["path"]))
        if wanted != _LOGS_DIR and not wanted.startswith(_LOGS_DIR + "/"):
            return web.Response(status=404, text="404 page not found\n")
        if os.path.isdir(wanted):
            names = sorted(e.name + ("/" if e.is_dir() else "") for e in os.scandir(wanted))
            links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
            return web.Response(text=f"<pre>\n{links}</pre>\n", content_type="text/html")
        if not os.path.isfile(wanted):
            return web.Response(status=404, text="404 page not found\n")
        kind = mimetypes.guess_type(wanted)[0] or "text/plain"
        return web.FileResponse(wanted, headers={"Content-Type": kind})

    # -- containers --------------------------------------------------------------------------------------------------

    def _find_pod(self, request: web.Request) -> Object:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        worker = self._manager.find(namespace, name)
        if worker is None or request.match_info.get("uid") not in (None, worker.uid):
            raise web.HTTPNotFound(text=f'pod "{name}" does not exist\n')
        return worker.pod

    def _running(self, request: web.Request) -> tuple[Object, Container]:
        pod = self._find_pod(request)
        name = request.match_info["container"]
        status = self._kit.view.pod(meta.uid_of(pod)).container(name)
        if status is None or status.state not in (RUNNING, CREATED):
            raise web.HTTPNotFound(text=f'container not found ("{name}")\n')
        return pod, status

    async def _container_logs(self, request: web.Request) -> web.StreamResponse:
        pod = self._find_pod(request)
        name = request.match_info["container"]
        if spec.find_container(pod, name) is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found in pod "{meta.name_of(pod)}"\n')
        try:
            options, previous = log_options(request.query, datetime.now(UTC))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=422)
        status = self._container_with_log(pod, name, previous=previous)
        if isinstance(status, str):
            return web.Response(status=400, text=status + "\n")
        uid = meta.uid_of(pod)

        def is_running() -> bool:
            now = self._kit.view.pod(uid).by_id(status.id)
            return now is not None and now.state == RUNNING

        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        try:
            pieces = logfile.read(status.log_path, options, is_running)
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(piece)
        except LogError as error:
            return web.Response(status=500, text=f"{error}\n")
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    def _container_with_log(self, pod: Object, name: str, *, previous: bool) -> Container | str:
        """The container whose log is wanted, or why there is none."""
        view, pod_name = self._kit.view.pod(meta.uid_of(pod)), meta.name_of(pod)
        shown = self._shown(pod, name)
        if previous:
            ended = (shown.get("lastState") or {}).get("terminated") or {}
            container = view.by_id(str(ended.get("containerID") or "").rpartition("://")[2])
            return container or f'previous terminated container "{name}" in pod "{pod_name}" not found'
        ran = next((c for c in view.containers_of(name) if c.state != CREATED), None)
        if ran is not None:
            return ran
        waiting = (shown.get("state") or {}).get("waiting")
        if not waiting:
            return f'container "{name}" in pod "{pod_name}" is not available'
        reason = waiting.get("reason") or "ContainerCreating"
        why = {
            "ErrImagePull": "image can't be pulled",
            "ImagePullBackOff": "trying and failing to pull image",
        }.get(reason, reason)
        return f'container "{name}" in pod "{pod_name}" is waiting to start: {why}'

    def _shown(self, pod: Object, name: str) -> Object:
        """What the pod's status tells of a container, or nothing."""
        statuses = self._kit.statuses.get(meta.uid_of(pod)) or {}
        for section in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for status in statuses.get(section) or ():
                if status["name"] == name:
                    return dict(status)
        return {}

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        _, status = self._running(request)
        wanted = _streams(request)
        command = request.query.getall("command", [])
        if not command:
            return web.Response(status=400, text="you must specify a command\n")
        ask = pb.ExecRequest(container_id=status.id, cmd=command, **wanted)
        return await self._join(request, lambda: self._kit.cri.exec(ask))

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        _, status = self._running(request)
        ask = pb.AttachRequest(container_id=status.id, **_streams(request))
        return await self._join(request, lambda: self._kit.cri.attach(ask))

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        pod = self._find_pod(request)
        sandbox = self._kit.view.pod(meta.uid_of(pod)).ready_sandbox
        if sandbox is None:
            raise web.HTTPNotFound(text=f'pod "{meta.name_of(pod)}" is not running\n')
        texts = [part for text in request.query.getall("port", []) for part in text.split(",")]
        if not all(text.isdigit() and 0 < int(text) < 65536 for text in texts):
            return web.Response(status=400, text=f"invalid port {', '.join(texts)}\n")
        ports = [int(text) for text in texts]
        return await self._join(request, lambda: self._kit.cri.port_forward(sandbox.id, ports))

    async def _join(self, request: web.Request, ask: Callable[[], Awaitable[str]]) -> web.StreamResponse:
        try:
            url = await ask()
        except CriError as error:
            return web.Response(status=500, text=f"{error}\n")
        return await streaming.join(request, url, self._kit.settings.streaming_idle_seconds)

    async def _run(self, request: web.Request) -> web.Response:
        _, status = self._running(request)
        command = request.query.get("cmd", "").split(" ")
        try:
            answer = await self._kit.cri.exec_sync(status.id, command, 0)
        except CriError as error:
            return web.Response(status=500, text=f"{error}\n")
        return web.Response(body=answer.stdout + answer.stderr, content_type="text/plain")


@web.middleware
async def _counted_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    with counted(request, "readonly"):
        return await handler(request)


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in ("1", "true")


def _streams(request: web.Request) -> dict[str, bool]:
    """Which streams are wanted. Raises HTTPBadRequest."""
    tty = _flag(request, "tty")
    wanted = {
        "stdin": _flag(request, "input") or _flag(request, "stdin"),
        "stdout": _flag(request, "output") or _flag(request, "stdout"),
        # A terminal has one stream for both.
        "stderr": (_flag(request, "error") or _flag(request, "stderr")) and not tty,
    }
    if not any(wanted.values()):
        raise web.HTTPBadRequest(text="you must specify at least 1 of stdin, stdout, stderr\n")
    return {**wanted, "tty": tty}


def log_options(query: Mapping[str, str], now: datetime) -> tuple[LogOptions, bool]:
    """(options, whether the previous container's log is wanted) of a query. Raises ValueError."""
    since = None
    if query.get("sinceSeconds") and query.get("sinceTime"):
        raise ValueError("at most one of `sinceTime` or `sinceSeconds` may be specified")
    if query.get("sinceSeconds"):
        seconds = _whole(query, "sinceSeconds", minimum=1)
        since = now - timedelta(seconds=seconds)
    elif query.get("sinceTime"):
        since = parse_time(query["sinceTime"])
    stream = query.get("stream") or "All"
    if stream not in ("All", "Stdout", "Stderr"):
        raise ValueError(f'stream: Unsupported value: "{stream}": supported values: "All", "Stderr", "Stdout"')
    options = LogOptions(
        follow=boolean(query.get("follow") or "false"),
        timestamps=boolean(query.get("timestamps") or "false"),
        since=since,
        tail_lines=_whole(query, "tailLines", minimum=0) if query.get("tailLines") else -1,
        limit_bytes=_whole(query, "limitBytes", minimum=1) if query.get("limitBytes") else -1,
        stream=stream,
    )
    return options, boolean(query.get("previous") or "false")


def _whole(query: Mapping[str, str], name: str, *, minimum: int) -> int:
    number = int(query[name])
    if number < minimum:
        raise ValueError(f"{name}: must be greater than or equal to {minimum}")
    return number
