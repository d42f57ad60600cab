"""What must be true in one IP family, and its backend."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping

from agent.proxy import metrics
from agent.proxy.errors import BackendError
from agent.proxy.model import Backend, Family, HealthCheck, PortRules, ServicePlan, ServicePortName
from agent.proxy.settings import RuleSettings

_POLICIES = ("internal", "external")


class FamilyState:
    """One IP family: its backend, and what must be true."""

    def __init__(self, settings: RuleSettings, backend: Backend, failures: metrics.SyncFailures) -> None:
        self.settings = settings
        self.backend = backend
        self.rules: dict[ServicePortName, PortRules] = {}
        self.health_checks: dict[str, HealthCheck] = {}
        self.stale = True  # the backend must be given everything
        self._by_service: dict[str, tuple[ServicePortName, ...]] = {}
        self._problems: dict[str, tuple[str, ...]] = {}
        self._failures = failures
        self._refused: dict[ServicePortName, PortRules] = {}  # what the backend did not take
        self._without_local = Counter[str]()  # policy -> service ports for which this node alone has no endpoint

    @property
    def family(self) -> Family:
        """Which."""
        return self.settings.family

    def take(self, key: str, plan: ServicePlan) -> dict[ServicePortName, PortRules | None]:
        """Let the plan be what must be true for this Service; returns the difference."""
        changes: dict[ServicePortName, PortRules | None] = {}
        names = tuple(port.name for port in plan.ports)
        for name in self._by_service.get(key, ()):
            if name not in names:
                changes[name] = None
                self._without_local.subtract(_policies_without_local(self.rules.pop(name)))
        for port in plan.ports:
            before = self.rules.get(port.name)
            if before != port:
                changes[port.name] = port
                self.rules[port.name] = port
                self._without_local.subtract(_policies_without_local(before))
                self._without_local.update(_policies_without_local(port))
        if names:
            self._by_service[key] = names
        else:
            self._by_service.pop(key, None)
        if plan.health_check is not None:
            self.health_checks[key] = plan.health_check
        else:
            self.health_checks.pop(key, None)
        return changes

    def of_service(self, key: str) -> dict[ServicePortName, PortRules]:
        """What must be true for the ports of one Service."""
        return {name: self.rules[name] for name in self._by_service.get(key, ())}

    def new_problems(self, key: str, plan: ServicePlan) -> tuple[str, ...]:
        """The plan's problems, if they are not those that the last plan for this Service had."""
        known = self._problems.get(key, ())
        if plan.problems:
            self._problems[key] = plan.problems
        else:
            self._problems.pop(key, None)
        return plan.problems if plan.problems != known else ()

    async def carry_out(self, changes: Mapping[ServicePortName, PortRules | None]) -> dict[ServicePortName, str]:
        """Give the backend the changes, or everything if it needs everything.

        Returns those that the backend does not take, each with its reason: they are left out until they change.
        Raises BackendError when it takes nothing at all.
        """
        if not self.stale and not changes:
            return {}
        family = self.family.api_name
        started = time.monotonic()
        full = self.stale
        for name in changes:
            self._refused.pop(name, None)
        found: dict[ServicePortName, str] = {}
        try:
            if full:
                await self.backend.replace(self._accepted(()))
            else:
                await self.backend.change(changes)
        except BackendError as error:
            self.stale = True
            (self._failures.full if full else self._failures.partial).labels(family).inc()
            suspects = {name: rules for name, rules in changes.items() if rules is not None}
            if not suspects:
                raise
            found = await self._find_culprits(suspects, error)
        self.stale = False
        took = time.monotonic() - started
        metrics.SYNC_SECONDS.labels(family).observe(took)
        (metrics.FULL_SYNC_SECONDS if full else metrics.PARTIAL_SYNC_SECONDS).labels(family).observe(took)
        metrics.LAST_SYNC.labels(family).set_to_current_time()
        for policy in _POLICIES:
            metrics.NO_LOCAL_ENDPOINTS.labels(family, policy).set(self._without_local[policy])
        return found

    async def _find_culprits(
        self, suspects: Mapping[ServicePortName, PortRules], error: BackendError
    ) -> dict[ServicePortName, str]:
        """Bring about what can be, whatever one service has in it: halve what is new until what is refused is alone."""
        await self.backend.replace(self._accepted(suspects))
        waiting = [sorted(suspects)]
        missing = set(suspects)
        found: dict[ServicePortName, str] = {}
        while waiting:
            group = waiting.pop()
            try:
                await self.backend.change({name: suspects[name] for name in group})
                missing.difference_update(group)
                continue
            except BackendError as refusal:
                error = refusal
            await self.backend.replace(self._accepted(missing))
            if len(group) == 1:
                found[group[0]] = str(error)
                self._refused[group[0]] = suspects[group[0]]
            else:
                middle = len(group) // 2
                waiting += [group[:middle], group[middle:]]
        return found

    def _accepted(self, without: Collection[ServicePortName]) -> dict[ServicePortName, PortRules]:
        left_out = {*without, *self._refused}
        return {name: rules for name, rules in self.rules.items() if name not in left_out} if left_out else self.rules


def _policies_without_local(rules: PortRules | None) -> list[str]:
    """The traffic policies under which traffic is dropped here, because only other nodes have endpoints."""
    if rules is None:
        return []
    refusals = zip(_POLICIES, (rules.internal_refusal, rules.external_refusal), strict=True)
    return [policy for policy, refusal in refusals if refusal == "drop"]
