"""Which controllers of a manager run: what `--controllers` means.

Source: k8s.io/controller-manager/app, "IsControllerEnabled"; kube-controller-manager's "NewControllerDescriptors".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Names:
    """The controllers that a manager knows."""

    known: frozenset[str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Older names."""

    off_by_default: frozenset[str] = frozenset()
    not_here: Mapping[str, str] = field(default_factory=dict)
    """Name → why it can't run here: `runs in …`, `is not …`."""

    gated: Mapping[str, str] = field(default_factory=dict)
    """Name → the feature gate that keeps it off."""

    def choose(self, selection: Iterable[str]) -> frozenset[str]:
        """Those that run.

        `*` stands for all that are on by default, `name` (or `+name`) turns one on, `-name` off; a name wins over `*`.
        Raises SettingsError for a name that does not exist.
        """
        on: set[str] = set()
        off: set[str] = set()
        everything = False
        for item in selection:
            if item == "*":
                everything = True
                continue
            turned_off = item.startswith("-")
            name = item.lstrip("+-")
            name = self.aliases.get(name, name)
            if self._is_ours(name, turned_off=turned_off):
                (off if turned_off else on).add(name)
        chosen = on | (self.known - self.off_by_default if everything else set())
        return frozenset(chosen - (off - on))

    def _is_ours(self, name: str, *, turned_off: bool) -> bool:
        if name in self.known:
            return True
        if name in self.gated:
            if not turned_off:
                gate = self.gated[name]
                log.info("Controller is disabled by a feature gate", controller=name, requiredFeatureGates=gate)
            return False
        if name not in self.not_here:
            raise SettingsError(f'--controllers: "{name}" is not in the list of known controllers')
        if not turned_off:
            raise SettingsError(f"--controllers: {name} {self.not_here[name]}")
        return False
