"""When tokens of Secrets are used, written down: so that those that nobody uses can be found and taken away.

Source: pkg/controlplane/controller/legacytokentracking, pkg/serviceaccount/legacy.go; KEP-2799.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from controlplane.apiserver.handlers.contract import Loopback
from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object, key_of, labels_of
from machinery.clock import Clock
from machinery.errors import AlreadyExists, Conflict, NavarchError, NotFound
from machinery.log import get_logger

log = get_logger(__name__)

LAST_USED, INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
CONFIG_MAP, NAMESPACE, SINCE = "kube-apiserver-legacy-service-account-token-tracking", "kube-system", "since"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class LegacyTokens:
    """Keeps the ConfigMap that says since when uses are written down, and the Secrets' labels that say when."""

    loopback: Loopback
    clock: Clock

    async def track(self) -> None:
        """Say since when, if that is not said already. Raises NavarchError; the namespace must be there."""
        today = self.clock.now().date()
        for _ in range(_ATTEMPTS):  # another server may do the same at this moment
            try:
                found = await self.loopback.get(CONFIGMAPS, CONFIG_MAP, NAMESPACE)
                if _is_day(str((found.get("data") or {}).get(SINCE) or ""), today):
                    return
                await self.loopback.update(CONFIGMAPS, {**found, "data": {SINCE: today.isoformat()}})
                return
            except NotFound:
                try:
                    made = {"metadata": {"name": CONFIG_MAP}, "data": {SINCE: today.isoformat()}}
                    await self.loopback.create(CONFIGMAPS, made, NAMESPACE)
                    return
                except AlreadyExists:
                    continue
            except Conflict:
                continue

    async def note_use(self, secret: Object) -> None:
        """Say that the Secret's token is used today. Whoever uses it is not made to suffer if that fails."""
        today = self.clock.now().date()
        said = labels_of(secret).get(LAST_USED)
        if said in (today.isoformat(), (today + timedelta(days=1)).isoformat()):  # tomorrow: where clocks differ
            return
        labels = {**labels_of(secret), LAST_USED: today.isoformat()}
        try:
            await self.loopback.update(SECRETS, {**secret, "metadata": {**secret["metadata"], "labels": labels}})
        except NavarchError as exc:
            log.warning("use of a token not written down", secret=key_of(secret), reason=str(exc))


def _is_day(text: str, today: date) -> bool:
    """Whether this is a day that is not to come."""
    try:
        return date.fromisoformat(text) <= today
    except ValueError:
        return False
