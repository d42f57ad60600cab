"""The supervisor's socket: one JSON request a line, one JSON answer a line.

    {"do": "start", "daemons": [{…}]}     {"do": "start-again", "keys": ["cp1/etcd"]}
    {"do": "stop", "keys": ["cp1/etcd"]}  {"do": "list"}  {"do": "shutdown"}

The answer is {"daemons": [report, …]} or {"error": "…"}.  Only root can connect.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from typing import Any

from lab.layout import Layout
from lab.supervisor.daemon import Daemon
from lab.supervisor.runner import Runner
from machinery.errors import NavarchError
from machinery.log import get_logger

log = get_logger(__name__)

REQUEST_BYTES = 4 << 20


async def serve(layout: Layout, runner: Runner, stop: asyncio.Event) -> None:
    """Answer requests until cancelled; `shutdown` sets `stop`."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await _answer(json.loads(line), runner, stop)
                if stop.is_set():
                    server.close()  # before the answer: who has read it finds no supervisor any more
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as exc:
            log.warning("request dropped", reason=str(exc))
        finally:
            writer.close()

    previous = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(connected, path=layout.socket, limit=REQUEST_BYTES)
    finally:
        os.umask(previous)
    async with server:
        await server.serve_forever()


async def _answer(request: dict[str, Any], runner: Runner, stop: asyncio.Event) -> dict[str, Any]:
    try:
        match request.get("do"):
            case "start":
                await runner.start([Daemon.from_wire(wire) for wire in request["daemons"]])
            case "start-again":
                await runner.start_again(request["keys"])
            case "stop":
                await runner.stop(request["keys"])
            case "shutdown":
                await runner.stop([report.key for report in runner.reports()])
                stop.set()
            case "list":
                pass
            case other:
                return {"error": f"unknown request {other!r}"}
    except NavarchError as exc:
        return {"error": str(exc)}
    except (KeyError, TypeError) as exc:
        return {"error": f"malformed request: {exc}"}
    return {"daemons": [asdict(report) for report in runner.reports()]}
