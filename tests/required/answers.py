"""Requests whose bodies or answers are no ordinary objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from cluster import SECONDS, Cluster


async def send(
    cluster: Cluster,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: str = "",
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """(status, JSON) of a request whose body is sent as it is written."""
    config = cluster.client.config
    sent = {"Content-Type": content_type} if body else {}
    if config.token:
        sent["Authorization"] = f"Bearer {config.token}"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
        session.request(
            method,
            config.server + path,
            params=query,
            data=body.encode() or None,
            headers=sent | dict(headers or {}),
            ssl=config.ssl_context() or True,
        ) as answer,
    ):
        return answer.status, orjson.loads(await answer.read())
