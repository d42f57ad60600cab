"""The two rounds of the mutating phase: what was changed late is shown once more to those who came early.

When a webhook or a policy changes an object, all plugins look at it a second time; of the webhooks and policies only
those that ask for it (`reinvocationPolicy: IfNeeded`) and were called before something was changed.

Source: k8s.io/apiserver/pkg/admission/reinvocation.go, plugin/webhook/mutating/reinvocationcontext.go,
plugin/policy/mutating/reinvocationcontext.go.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import orjson

from machinery.api.meta import Object


@dataclass(slots=True)
class Rounds:
    """Of one operation."""

    second: bool = False
    """Whether this is the second round."""
    wanted: bool = False
    """Whether there is to be one."""
    _recalls: dict[str, Recalls] = field(default_factory=dict)

    def of(self, plugin: str, obj: Object | None) -> Recalls:
        """What one plugin calls, at the beginning of its turn."""
        found = self._recalls.get(plugin)
        if found is None:
            found = self._recalls[plugin] = Recalls(self)
        elif self.second and found.left(obj):
            found.require()  # other plugins have changed the object since
        return found


@dataclass(slots=True)
class Recalls:
    """Which webhooks or policies of a plugin are called again."""

    _rounds: Rounds
    _called: set[Hashable] = field(default_factory=set)
    _again: set[Hashable] = field(default_factory=set)
    _output: bytes = b""

    def skips(self, which: Hashable) -> bool:
        """Whether it is not called in this round."""
        return self._rounds.second and which not in self._again

    def called(self, which: Hashable, *, changed: bool, again: bool) -> None:
        """One has been called; `again`: it wants to see what later ones change."""
        if changed:
            self.require()
            self._rounds.wanted = True
        if again:
            self._called.add(which)

    def require(self) -> None:
        """Call those again that have been called so far."""
        self._again |= self._called
        self._called.clear()

    def end(self, obj: Object | None) -> None:
        """The plugin's turn is over."""
        if self._called:
            self._output = orjson.dumps(obj)

    def left(self, obj: Object | None) -> bool:
        """Whether somebody might have to see that the object is another one now."""
        return bool(self._called) and orjson.dumps(obj) != self._output
