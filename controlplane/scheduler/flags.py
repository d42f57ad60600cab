"""kube-scheduler's flags. Source: `kube-scheduler --help` of v1.36."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.scheduler import config
from controlplane.scheduler.config import Settings
from machinery import component
from machinery.settings import Flag, FlagSet

_FLAGS = FlagSet(
    "kube-scheduler",
    [
        *component.LOG_FLAGS,
        *component.CLIENT_FLAGS,
        *component.SERVING_FLAGS,
        *component.LEADER_FLAGS,
        Flag("config", str, "", "path to a KubeSchedulerConfiguration file"),
        Flag("secure-port", int, 10259, "port to serve health and metrics on, with TLS"),
    ],
    harmless=component.HARMLESS,
)


@dataclass(frozen=True)
class Options:
    """Flags, and the configuration file they name (or defaults)."""

    flags: dict[str, Any]
    settings: Settings

    @property
    def shown(self) -> dict[str, Any]:
        """What /configz tells."""
        profiles = [profile.name for profile in self.settings.profiles]
        return {"kubescheduler.config.k8s.io": {"profiles": profiles}}


def parse(arguments: Sequence[str]) -> Options:
    """Read flags and file. Raises SettingsError."""
    flags = _FLAGS.parse(arguments)
    if not flags["config"]:
        return Options(flags, Settings())
    settings = config.load(flags["config"])
    flags |= config.leader_flags(settings)
    flags["kubeconfig"] = flags["kubeconfig"] or settings.kubeconfig
    return Options(flags, settings)
