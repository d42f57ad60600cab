"""EventRateLimit: so many Events a second, of the server, a namespace, a user, or a source and object.

Source: k8s.io/kubernetes/plugin/pkg/admission/eventratelimit.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, UPDATE, BasePlugin
from machinery.api.catalogue import EVENTS, EVENTS_K8S_IO
from machinery.api.meta import Object
from machinery.clock import Clock
from machinery.errors import SettingsError, TooManyRequests

_TYPES = ("Server", "Namespace", "User", "SourceAndObject")
_DEFAULT_CACHE = 4096


@dataclass(slots=True)
class Bucket:
    """Fills with `rate` a second up to `size`."""

    rate: float
    size: float
    filled: float
    at: float

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self.filled = min(self.size, self.filled + (now - self.at) * self.rate)
        self.at = now
        if self.filled < 1:
            return False
        self.filled -= 1
        return True


@dataclass(slots=True)
class Limit:
    """One configured limit with its buckets, the least recently used of which are forgotten."""

    type: str
    qps: float
    burst: int
    most: int
    buckets: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)

    def take(self, key: str, now: float) -> bool:
        """Whether one more is allowed for the key."""
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = Bucket(self.qps, float(self.burst), float(self.burst), now)
            if len(self.buckets) > self.most:
                self.buckets.popitem(last=False)
        self.buckets.move_to_end(key)
        return bucket.take(now)


class EventRateLimit(BasePlugin):
    """Refuses Events above the configured rates."""

    name = "EventRateLimit"
    verbs = (CREATE, UPDATE)
    resources = (EVENTS, EVENTS_K8S_IO)

    def __init__(self, clock: Clock, configuration: Object | None) -> None:
        self._clock = clock
        self._limits = [_limit(limit) for limit in (configuration or {}).get("limits") or ()]
        if not self._limits:
            raise SettingsError("--admission-control-config-file: EventRateLimit needs a Configuration with limits")

    async def validate(self, operation: Operation) -> None:
        """Raises TooManyRequests."""
        if operation.dry_run:
            return
        now = self._clock.monotonic()
        # All are charged, also after the first that refuses: as upstream.
        refused = [limit for limit in self._limits if not limit.take(_key(limit.type, operation), now)]
        if refused:
            key = _key(refused[0].type, operation)
            raise TooManyRequests(f"limit reached on type {refused[0].type} for key {key}")


def _limit(obj: Any) -> Limit:
    kind = obj.get("type")
    if kind not in _TYPES:
        raise SettingsError(f"EventRateLimit: unknown limit type {kind!r}; use one of {', '.join(_TYPES)}")
    qps, burst = obj.get("qps"), obj.get("burst")
    if not isinstance(qps, int) or not isinstance(burst, int) or qps <= 0 or burst <= 0:
        raise SettingsError(f"EventRateLimit: the limit of type {kind} needs qps and burst above zero")
    return Limit(kind, qps, burst, obj.get("cacheSize") or _DEFAULT_CACHE)


def _key(kind: str, operation: Operation) -> str:
    if kind == "Namespace":
        return operation.namespace
    if kind == "User":
        return operation.user.name
    if kind == "Server":
        return ""
    event = operation.object or {}
    source = event.get("source") or event.get("deprecatedSource") or {}
    about = event.get("involvedObject") or event.get("regarding") or {}
    parts = [source.get("component"), source.get("host")]
    parts += [about.get(key) for key in ("kind", "namespace", "name", "uid", "apiVersion")]
    return "".join(str(part or "") for part in parts)
