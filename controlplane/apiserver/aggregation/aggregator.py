"""Keeps APIServices true, and passes requests on to the servers they name.

Every API server proxies by its own view of the APIServices; statuses are written by whichever comes first.

Source: kube-aggregator/pkg/apiserver/{apiserver,handler_proxy}.go, pkg/controllers/{autoregister,status}.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from controlplane.apiserver.aggregation import authentication, availability, registration
from controlplane.apiserver.aggregation.availability import Verdict
from controlplane.apiserver.aggregation.remote import Remote, identity_headers
from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.proxying import forward
from controlplane.apiserver.http.request import Answered
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.registry.objects import items, sub, text
from controlplane.apiserver.resources import Resources
from controlplane.apiserver.settings import Settings
from machinery.api import meta
from machinery.api.catalogue import APISERVICES, ENDPOINTSLICES, SERVICES
from machinery.api.meta import Object, labels_of, name_of, namespace_of
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import AlreadyExists, Conflict, NotFound, ServiceUnavailable, StatusError
from machinery.log import get_logger

log = get_logger(__name__)

_AGAIN_SECONDS: Final = 0.5
_CHECK_SECONDS: Final = 30.0
_LOCAL: Final = "\0local"  # the key under which this server's own APIServices are worked on
_TRUST: Final = "\0trust"
_TRUST_SECONDS: Final = 60.0
_TEXT: Final = "text/plain; charset=utf-8"
_UNAVAILABLE: Final = Answer(b"service unavailable\n", _TEXT, 503, {"X-Content-Type-Options": "nosniff"})


@dataclass
class Aggregator:
    """The APIServices of one API server: `run` it."""

    resources: Resources
    reader: Reader
    api: Loopback
    settings: Settings
    clock: Clock
    remotes: dict[str, Remote] = field(default_factory=dict)
    """By the path they answer."""

    registered: bool = False
    """Whether everything that is served here has had its APIService made."""

    def __post_init__(self) -> None:
        self._controller = Controller("apiservice", self._reconcile, workers=2)
        self.reader.on_change(APISERVICES, self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        self.reader.on_change(SERVICES, self._service_changed)
        self.reader.on_change(ENDPOINTSLICES, self._slice_changed)
        self.resources.changed.append(lambda: self._controller.enqueue(_LOCAL))
        self._controller.enqueue(_LOCAL)
        self._controller.enqueue(_TRUST)
        await self._controller.run()

    # -- requests ----------------------------------------------------------------------------------------------------

    def remote(self, path: str) -> Remote | None:
        """The server that a path belongs to, if that is another one."""
        if not self.remotes or not path.startswith("/apis/"):
            return None
        return self.remotes.get("/".join(path.split("/", 4)[:4]))

    async def proxy(self, exchange: Exchange, remote: Remote) -> Answer | Answered:
        """Pass a request on."""
        if not remote.available:
            return _UNAVAILABLE
        try:
            peer = remote.peer()
            return await forward(exchange, peer, exchange.raw.target, headers=identity_headers(exchange.user))
        except ServiceUnavailable as exc:
            return Answer(f"{exc.message}\n".encode(), _TEXT, 503, {"X-Content-Type-Options": "nosniff"})

    # -- changes -----------------------------------------------------------------------------------------------------

    def _changed(self, old: Object | None, new: Object | None) -> None:
        for service in (old, new):
            if service is not None:
                self._controller.enqueue(name_of(service))
        before = self._remove(old) if old is not None else None
        if new is not None and not registration.is_local(new):
            made = Remote(new, self.reader, self.settings, available=_is_available(new))
            if before is not None and sub(before.service, "spec") == sub(new, "spec"):
                made.resources, made.documents = before.resources, before.documents
                if before.available == made.available:
                    self.remotes[made.base] = made
                    return
            self.remotes[made.base] = made
            self.resources.replace((), ())
        elif before is not None or (new is None and old is not None):
            self._controller.enqueue(_LOCAL)
            self.resources.replace((), ())

    def _remove(self, service: Object) -> Remote | None:
        group, version = registration.group_version(service)
        return self.remotes.pop(f"/apis/{group}/{version}", None)

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        service = new if new is not None else old
        if service is not None and self.remotes:
            self._enqueue_for(namespace_of(service), name_of(service))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        piece = new if new is not None else old
        if piece is not None and self.remotes:
            self._enqueue_for(namespace_of(piece), labels_of(piece).get("kubernetes.io/service-name", ""))

    def _enqueue_for(self, namespace: str, name: str) -> None:
        for remote in self.remotes.values():
            reference = sub(remote.service, "spec", "service")
            if text(reference, "namespace") == namespace and text(reference, "name") == name:
                self._controller.enqueue(remote.name)

    # -- what should be ----------------------------------------------------------------------------------------------

    async def _reconcile(self, name: str) -> float | None:
        if name == _LOCAL:
            return await self._register()
        if name == _TRUST:
            return await self._publish()
        service = self.reader.get(APISERVICES, "", name)
        if service is None:
            return None
        if registration.is_local(service):
            return await self._tell(service, availability.LOCAL)
        remote = next((r for r in self.remotes.values() if r.name == name), None)
        if remote is None:
            return _AGAIN_SECONDS
        again = await self._tell(service, await self._verdict(remote))
        return again or _CHECK_SECONDS

    async def _publish(self) -> float:
        """Tell extension API servers whom to believe; certificates may be exchanged while this runs."""
        try:
            await authentication.publish(self.api, self.settings)
        except (NotFound, Conflict, OSError) as exc:
            log.debug("cannot publish what is trusted yet", err=str(exc))
            return _AGAIN_SECONDS
        return _TRUST_SECONDS

    async def _register(self) -> float | None:
        """Make the APIServices of what is served here, and remove those of what is not any more."""
        wanted = registration.wanted(self.resources)
        again = None
        for name, service in wanted.items():
            if self.reader.get(APISERVICES, "", name) is None:
                try:
                    await self.api.create(APISERVICES, service)
                except AlreadyExists:
                    continue
                except StatusError as exc:
                    log.warning("cannot register", apiservice=name, error=exc)
                    again = _AGAIN_SECONDS
        self.registered = self.registered or again is None
        for name in registration.superfluous(self.reader.list(APISERVICES), wanted):
            try:
                await self.api.delete(APISERVICES, name)
            except NotFound:
                continue
        return again

    async def _verdict(self, remote: Remote) -> Verdict:
        reference = sub(remote.service, "spec", "service")
        namespace, name = text(reference, "namespace"), text(reference, "name")
        verdict = availability.of_service(
            reference, self.reader.get(SERVICES, namespace, name), self._slices(namespace, name)
        )
        if verdict is not None:
            return verdict
        url = f"https://{name}.{namespace}.svc:{reference.get('port') or 443}{remote.base}"
        try:
            status, _, _ = await remote.fetch(remote.base)
            if not 200 <= status < 300:
                return availability.failed_discovery(url, f"bad status from {url}: {status}")
            found = await remote.discover()
            if found != remote.resources:
                await remote.describe()
        except ServiceUnavailable as exc:
            return availability.failed_discovery(url, exc.message)
        if found != remote.resources:
            remote.resources = found
            self.resources.replace((), ())
        return availability.PASSED

    def _slices(self, namespace: str, name: str) -> Sequence[Object]:
        pieces = self.reader.list(ENDPOINTSLICES, namespace)
        return [piece for piece in pieces if labels_of(piece).get("kubernetes.io/service-name") == name]

    async def _tell(self, service: Object, verdict: Verdict) -> float | None:
        conditions = copy.deepcopy(items(service, "status", "conditions"))
        now = meta.format_time(self.clock.now())
        if not meta.set_condition(conditions, verdict.condition(), now=now):
            return None
        status = {**sub(service, "status"), "conditions": conditions}
        try:
            await self.api.update(APISERVICES, {**service, "status": status}, "status")
        except (Conflict, NotFound):
            return _AGAIN_SECONDS
        return None


def _is_available(service: Object) -> bool:
    condition = meta.condition(items(service, "status", "conditions"), "Available")
    return condition is not None and condition.get("status") == "True"
