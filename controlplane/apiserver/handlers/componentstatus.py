"""componentstatuses: whether scheduler, controller manager and etcd answer their health checks.

Deprecated upstream since 1.19 and still served.  Asks the components on this host, as upstream does.

Source: pkg/registry/core/componentstatus, pkg/controlplane/instance.go.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.dialing import why
from controlplane.apiserver.handlers import encoding, negotiated
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.failures import not_found
from controlplane.apiserver.handlers.selection import selection
from machinery.api.meta import Object
from machinery.errors import StorageUnavailable
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

_PORTS = {"scheduler": 10259, "controller-manager": 10257}
_SECONDS = 5.0
_DEPRECATED = "v1 ComponentStatus is deprecated in v1.19+"


async def get(api: Api, exchange: Exchange) -> Answer:
    """GET of one component's status."""
    form = negotiated.form(exchange)
    exchange.warnings.append(_DEPRECATED)
    name = exchange.info.name
    if name not in names(api):
        raise not_found(exchange.served.type, name)
    record = await _record(api, name)
    return encoding.one(record, exchange.served, form, negotiated.include(exchange, form))


async def list_(api: Api, exchange: Exchange) -> Answer:
    """GET of all components' statuses."""
    form = negotiated.form(exchange)
    exchange.warnings.append(_DEPRECATED)
    chosen = selection(exchange, exchange.served, "")
    records = await asyncio.gather(*(_record(api, name) for name in names(api)))
    shown = [record for record in records if chosen.selects(record)]
    return encoding.many(shown, exchange.served, form, {}, negotiated.include(exchange, form))


def names(api: Api) -> Sequence[str]:
    """The components that have a status."""
    return sorted([*api.settings.components, *(f"etcd-{i}" for i in range(len(api.settings.etcd_servers)))])


async def _record(api: Api, name: str) -> Record:
    well, told, error = await (_etcd(api) if name.startswith("etcd-") else _component(_PORTS[name]))
    condition = {"type": "Healthy", "status": "True" if well else "False", "message": told}
    if error:
        condition["error"] = error
    obj: Object = {
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    }
    return Record(name, orjson.dumps(obj), 0)


async def _component(port: int) -> tuple[bool, str, str]:
    """(healthy, message, error) of a component on this host; its certificate may be self-signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url = f"https://127.0.0.1:{port}/healthz"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
            session.get(url, ssl=context) as response,
        ):
            text = await response.text()
            return response.status == 200, text, "" if response.status == 200 else f"unhealthy: {response.status}"
    except (aiohttp.ClientError, TimeoutError) as exc:
        return False, f'Get "{url}": {why(exc)}', ""


async def _etcd(api: Api) -> tuple[bool, str, str]:
    try:
        await api.objects.cacher.storage.get(api.objects.cacher.prefix + "health")
    except StorageUnavailable as exc:
        return False, str(exc), ""
    return True, "ok", ""
