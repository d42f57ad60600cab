"""kube-scheduler's flags. Source: `kube-scheduler --help` of v1.36."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.scheduler.config import file
from controlplane.scheduler.config.settings import API_VERSION, Settings
from controlplane.scheduler.config.shown import as_go_names
from machinery import component, servingguard
from machinery.settings import Flag, FlagSet, duration

_FLAGS = FlagSet(
    "kube-scheduler",
    [
        *component.LOG_FLAGS,
        *component.CLIENT_FLAGS,
        *component.SERVING_FLAGS,
        *component.LEADER_FLAGS,
        *servingguard.FLAGS,
        Flag("config", str, "", "path to a KubeSchedulerConfiguration file"),
        Flag("write-config-to", str, "", "write the configuration, defaults included, to this file and exit"),
        Flag(
            "pod-max-in-unschedulable-pods-duration",
            duration,
            300.0,
            "the longest that a pod waits without another try, whatever happens in the cluster",
        ),
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
        return {"componentconfig": as_go_names(self.settings.shown)}


def parse(arguments: Sequence[str]) -> Options:
    """Read flags and file. Raises SettingsError."""
    flags = _FLAGS.parse(arguments)
    settings = file.load(flags["config"]) if flags["config"] else defaults()
    flags |= settings.flags
    flags["kubeconfig"] = flags["kubeconfig"] or settings.kubeconfig
    return Options(flags, settings)


def defaults() -> Settings:
    """What is so when no file says otherwise."""
    return file.read({"apiVersion": API_VERSION, "kind": file.KIND})
