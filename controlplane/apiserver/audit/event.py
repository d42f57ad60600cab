"""Events of the audit log: one for each stage of a request that the policy asks about.

Source: k8s.io/apiserver/pkg/audit/request.go, pkg/endpoints/filters/{audit,authn_audit}.go; audit.k8s.io/v1 Event.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from controlplane.apiserver.audit.policy import (
    COMPLETE,
    METADATA,
    PANIC,
    RECEIVED,
    REQUEST,
    REQUEST_RESPONSE,
    STARTED,
    Decision,
)
from controlplane.apiserver.handlers.exchange import JSON, PROTOBUF, Answer, Exchange
from controlplane.apiserver.request import User
from machinery.api.meta import Object, format_micro_time
from machinery.api.protobuf import envelope
from machinery.api.protobuf.wire import DecodeError

DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
_LONGEST_AGENT = 1024
_PATCHES = ("application/merge-patch+json", "application/json-patch+json", "application/strategic-merge-patch+json")

Write = Callable[[bytes], None]

_PATCHED = "patch.webhook.admission.k8s.io/"
"""Annotations that tell parts of objects."""


def _user(user: User) -> Object:
    made: Object = {"username": user.name}
    if user.uid:
        made["uid"] = user.uid
    if user.groups:
        made["groups"] = list(user.groups)
    if user.extra:
        made["extra"] = {key: list(values) for key, values in user.extra.items()}
    return made


def source_ips(forwarded: str, real: str, remote: str) -> list[str]:
    """Where a request came from: the proxies' word first, the peer of the connection last.

    Source: k8s.io/apimachinery/pkg/util/net (SourceIPs).
    """
    found = [text for part in forwarded.split(",") if (text := _address(part))]
    if not found and _address(real):
        found.append(_address(real))
    peer = _address(remote)
    if peer and (not found or found[-1] != peer):
        found.append(peer)
    return found


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return ""


def without_managed_fields(value: Any) -> Any:
    """An object, a list of objects or a Table, without metadata.managedFields."""
    if not isinstance(value, dict):
        return value
    made = dict(value)
    metadata = made.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        made["metadata"] = {k: v for k, v in metadata.items() if k != "managedFields"}
    if isinstance(made.get("items"), list):
        made["items"] = [without_managed_fields(item) for item in made["items"]]
    if isinstance(made.get("rows"), list):
        made["rows"] = [
            {**row, "object": without_managed_fields(row.get("object"))} if isinstance(row, dict) else row
            for row in made["rows"]
        ]
    return made


@dataclass(slots=True)
class Trail:
    """What is told of one request. Its methods are called in the order of the stages."""

    decision: Decision
    exchange: Exchange
    write: Write
    now: Callable[[], datetime]
    long_running: bool
    received: str = ""
    impersonated: User | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    _user: User | None = None
    _status: Object | None = None
    _response: Any = None

    def begin(self, user: User | None) -> None:
        """The request has come, from a user who is recognised (or not: None)."""
        self._user = user
        self.received = format_micro_time(self.now())
        if user is not None:
            self._emit(RECEIVED, self.received)

    def started(self, status: int) -> None:
        """A stream begins."""
        self._status = {"metadata": {}, "code": status}
        if self.long_running:
            self._emit(STARTED)

    def refused(self, status: int, message: str) -> None:
        """Nobody was recognised."""
        self._status = {"metadata": {}, "message": message, "code": status}
        self._emit(STARTED)

    def complete(self, answer: Answer | None) -> None:
        """The answer is complete; None: it was a stream, or the client has gone."""
        if answer is not None:
            self._take(answer)
            if self.long_running:
                self._emit(STARTED)
        elif self._status is None:
            self._status = {"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200}
        self._emit(COMPLETE)

    def panicked(self, told: str) -> None:
        """Serving the request failed by a defect."""
        self._status = {
            "metadata": {},
            "status": "Failure",
            "message": f"APIServer panic'd: {told}",
            "reason": "InternalError",
            "code": 500,
        }
        self._emit(PANIC)

    def _take(self, answer: Answer) -> None:
        """Status and, if the policy asks for it, object of an answer."""
        self._status = {"metadata": {}, "code": answer.status}
        all_of_it = self.decision.level == REQUEST_RESPONSE
        if not all_of_it and answer.status < 300 and self.exchange.method != "DELETE":
            return  # no Status would be found
        value = _decoded(bytes(answer.body), answer.content_type)
        if isinstance(value, dict) and value.get("kind") == "Status" and value.get("apiVersion") == "v1":
            given = {key: value[key] for key in ("status", "message", "reason", "details") if value.get(key)}
            self._status = {"metadata": {}, **given, "code": answer.status}
        if all_of_it and value is not None:
            self._response = without_managed_fields(value) if self.decision.omit_managed_fields else value

    def _emit(self, stage: str, at: str = "") -> None:
        if stage in self.decision.omit_stages:
            return
        event = self._event(stage)
        event["requestReceivedTimestamp"] = self.received
        event["stageTimestamp"] = at or format_micro_time(self.now())
        annotations = {**self.annotations, **self.exchange.audit_annotations}
        if self.decision.level not in (REQUEST, REQUEST_RESPONSE):
            annotations = {key: told for key, told in annotations.items() if not key.startswith(_PATCHED)}
        if annotations:
            event["annotations"] = dict(sorted(annotations.items()))
        self.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    def _event(self, stage: str) -> Object:
        exchange, info = self.exchange, self.exchange.info
        agent = exchange.headers.get("User-Agent", "")
        event: Object = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.decision.level,
            "auditID": exchange.answer_headers["Audit-Id"],
            "stage": stage,
            "requestURI": exchange.raw.target,
            "verb": info.verb,
            "user": _user(self._user) if self._user is not None else {},
        }
        if self.impersonated is not None:
            event["impersonatedUser"] = _user(self.impersonated)
        headers = exchange.headers
        ips = source_ips(headers.get("X-Forwarded-For", ""), headers.get("X-Real-Ip", ""), exchange.raw.remote)
        if ips:
            event["sourceIPs"] = ips
        if agent:
            event["userAgent"] = agent if len(agent) <= _LONGEST_AGENT else agent[:_LONGEST_AGENT] + "...TRUNCATED"
        body = _decoded(exchange.received, _media(exchange)) if stage != RECEIVED and exchange.received else None
        if info.is_resource:
            event["objectRef"] = self._reference(body)
        if stage != RECEIVED:
            if self._status is not None:
                event["responseStatus"] = self._status
            if body is not None and self.decision.level not in (METADATA,):
                event["requestObject"] = without_managed_fields(body) if self.decision.omit_managed_fields else body
            if self._response is not None and stage == COMPLETE:
                event["responseObject"] = self._response
        return event

    def _reference(self, body: Any) -> Object:
        info = self.exchange.info
        given: Any = body.get("metadata") if isinstance(body, dict) and self.exchange.method != "PATCH" else None
        if not isinstance(given, dict):
            given = {}
        made = {
            "resource": info.resource,
            "namespace": info.namespace or given.get("namespace"),
            "name": info.name or given.get("name"),
            "uid": given.get("uid"),
            "apiGroup": info.group,
            "apiVersion": info.version,
            "resourceVersion": given.get("resourceVersion"),
            "subresource": info.subresource,
        }
        return {key: value for key, value in made.items() if value and isinstance(value, str)}


def _media(exchange: Exchange) -> str:
    return JSON if exchange.content_type in _PATCHES else exchange.content_type or JSON


def _decoded(body: bytes, media: str) -> Any:
    """A body as a value; None if it can't be read."""
    try:
        if media.startswith(PROTOBUF):
            return envelope.decode(body)
        return orjson.loads(body) if media.startswith(JSON) else None
    except (ValueError, DecodeError, envelope.UnsupportedKindError):
        return None


def attempted(headers: Iterable[str], *, certificate: bool) -> str:
    """Which ways to prove an identity a request has tried, for the event of its refusal."""
    methods = []
    for value in headers:
        scheme = value.partition(" ")[0].lower()
        if scheme in ("basic", "bearer"):
            methods.append(scheme)
    if certificate:
        methods.append("x509")
    if not methods:
        return "Authentication failed, no credentials provided"
    return f"Authentication failed, attempted: {', '.join(methods)}"
