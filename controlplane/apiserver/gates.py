"""What a request passes before a handler sees it, in upstream's order: who asks, the audit log, whom he acts as,
whether there is room, whether he may.

Source: k8s.io/apiserver/pkg/server/config.go (DefaultBuildHandlerChain).
"""

from __future__ import annotations

from controlplane.apiserver.audit.auditor import Auditor
from controlplane.apiserver.audit.event import DECISION, REASON, Trail, attempted
from controlplane.apiserver.authz.refusal import forbidden
from controlplane.apiserver.flowcontrol.controller import FlowControl, Ticket
from controlplane.apiserver.flowcontrol.estimate import SECONDS_PER_SEAT, list_seats, seats_afterwards
from controlplane.apiserver.flowcontrol.level import Rejected
from controlplane.apiserver.handlers.api import Api
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.metrics import MUTATING, READ_ONLY
from controlplane.apiserver.request import Credentials, RequestInfo, User
from machinery.errors import Unauthorized

_OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})  # as --authorization-always-allow-paths has it by default
_LONG_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
_READING = frozenset({"get", "list", "watch", "head", "options"})
_MASTERS = "system:masters"


def is_long_running(info: RequestInfo) -> bool:
    """Whether a request is one that may go on for ever."""
    return info.verb in ("watch", "proxy") or info.subresource in _LONG_SUBRESOURCES


class TooMany(Exception):
    """There is no room for a request; told as plain text."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(retry_seconds)
        self.retry_seconds = retry_seconds


class Passage:
    """One request's way through the gates, and what is to be given back at its end."""

    __slots__ = (
        "_afterwards",
        "_gates",
        "exchange",
        "expired",
        "kind",
        "long_running",
        "panicked",
        "ticket",
        "trail",
    )

    def __init__(self, gates: Gates, exchange: Exchange) -> None:
        info = exchange.info
        self._gates = gates
        self.exchange = exchange
        self.long_running = is_long_running(info)
        self.kind = READ_ONLY if info.verb in _READING else MUTATING
        self.trail: Trail | None = None
        self.ticket: Ticket | None = None
        self._afterwards = 0
        self.expired = False
        """It took too long and was cancelled."""
        self.panicked = False

    def panic(self, told: str) -> None:
        """A defect ended it."""
        self.panicked = True
        if self.trail is not None:
            self.trail.panicked(told)

    async def enter(self) -> None:
        """Pass. Raises StatusErrors, TooMany."""
        gates, exchange = self._gates, self.exchange
        user = await self._authenticate()
        exchange.user = user
        if gates.auditor is not None:
            self.trail = gates.auditor.begin(exchange, user, long_running=self.long_running)
            if self.trail is not None:
                exchange.raw.on_start = self.trail.started
        if exchange.raw.head.impersonates:
            exchange.user = await gates.api.extensions.impersonate(user, exchange.headers, exchange.info)
            if self.trail is not None:
                self.trail.impersonated = exchange.user
        if gates.flow is not None:
            if not self.long_running or exchange.info.verb == "watch":
                await self._take_seats(gates.flow)
        elif not self.long_running:
            self._check_inflight()
        await self._authorize()

    async def _authenticate(self) -> User:
        metrics, clock = self._gates.api.metrics, self._gates.api.clock
        raw = self.exchange.raw
        credentials = Credentials(raw.peer_certificates, raw.headers, raw.remote, self.exchange.info.path)
        begun = clock.monotonic()
        try:
            for authenticator in self._gates.api.extensions.authenticators:
                user = await authenticator.authenticate(credentials)
                if user is not None:
                    metrics.authentications["success"] += 1
                    metrics.authentication_seconds.observe(("success",), clock.monotonic() - begun)
                    return user
            raise Unauthorized("Unauthorized")
        except Unauthorized:
            metrics.authentications["failure"] += 1
            metrics.authentication_seconds.observe(("failure",), clock.monotonic() - begun)
            self._tell_refusal()
            raise

    def _tell_refusal(self) -> None:
        auditor, exchange = self._gates.auditor, self.exchange
        if auditor is None:
            return
        trail = auditor.begin(exchange, None, long_running=True)
        if trail is not None:
            offered = exchange.headers.getall("Authorization", ())
            trail.refused(401, attempted(offered, certificate=bool(exchange.raw.peer_certificates)))

    async def _take_seats(self, flow: FlowControl) -> None:
        exchange = self.exchange
        info, user = exchange.info, exchange.user
        schema, level = flow.classify(user, info)
        exchange.answer_headers["X-Kubernetes-PF-FlowSchema-UID"] = schema.uid
        exchange.answer_headers["X-Kubernetes-PF-PriorityLevel-UID"] = level.spec.uid
        seats = self._seats() if not level.spec.exempt else 1
        ticket = flow.begin(schema, level, seats)
        if ticket is None:
            try:
                ticket = await flow.wait(schema, level, seats, schema.flow_of(user, info))
            except Rejected as exc:
                raise TooMany(flow.tally.retry_seconds(level.spec.name)) from exc
        self.ticket = ticket
        if info.verb == "watch":
            exchange.initialised = ticket.end

    def _seats(self) -> int:
        info, served = self.exchange.info, self.exchange.target.served
        if served is None:
            return 1
        if info.verb == "list" or (info.verb == "watch" and self.exchange.query.flag("sendInitialEvents")):
            collection = self._gates.api.objects.collection(served.prefix)
            return list_seats(collection, self.exchange.query, single=bool(info.name))
        if self.kind == MUTATING:
            self._afterwards = seats_afterwards(self._gates.api.objects.collection(served.prefix).watchers)
        return 1

    def _check_inflight(self) -> None:
        """Without priority and fairness: two simple limits, which do not hold for administrators."""
        limit = self._gates.limits[self.kind]
        full = limit and self._gates.api.metrics.inflight[self.kind] > limit
        if full and _MASTERS not in self.exchange.user.groups:
            raise TooMany(1)

    async def _authorize(self) -> None:
        api, exchange = self._gates.api, self.exchange
        info, user = exchange.info, exchange.user
        if not info.is_resource and exchange.target.path in _OPEN_PATHS:
            return
        begun = api.clock.monotonic()
        allowed, reason = await api.authorize(user, info)
        result = "allowed" if allowed else "denied"
        api.metrics.authorizations[result] += 1
        api.metrics.authorization_seconds.observe((result,), api.clock.monotonic() - begun)
        if self.trail is not None:
            self.trail.annotations[DECISION] = "allow" if allowed else "forbid"
            self.trail.annotations[REASON] = reason
        if not allowed:
            raise forbidden(user, info, reason)

    def leave(self) -> None:
        """The request has been served: its seats are free, or will be when its watchers have been told."""
        if self.ticket is not None:
            self.ticket.end(self._afterwards * SECONDS_PER_SEAT)


class Gates:
    """The gates of one server."""

    def __init__(self, api: Api, flow: FlowControl | None, auditor: Auditor | None) -> None:
        self.api = api
        self.flow = flow
        self.auditor = auditor
        settings = api.settings
        self.limits = {
            READ_ONLY: settings.max_requests_inflight,
            MUTATING: settings.max_mutating_requests_inflight,
        }
