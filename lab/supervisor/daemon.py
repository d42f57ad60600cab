"""What a daemon is to the supervisor, and when it is started again after it ended.

Source: systemd.service(5), Restart=always, RestartSec=, KillMode=.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0
SETTLED_SECONDS = 20.0
"""A daemon that has run this long starts with the shortest delay again."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """One supervised program on one host."""

    host: str
    name: str
    argv: tuple[str, ...]
    """What runs inside the host."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own few variables."""
    stage: int = 0
    """Stages are stopped from the highest to the lowest, one after the other."""
    stop_seconds: float = 10.0
    """How long after SIGTERM comes SIGKILL."""
    keeps_children: bool = False
    """Whether its child processes live on when it stops: containerd's shims, as with KillMode=process."""
    every_seconds: float = 0.0
    """For a job instead of a daemon: how long to wait before each run, the first one too."""

    @property
    def key(self) -> str:
        """HOST/NAME."""
        return f"{self.host}/{self.name}"

    @property
    def cgroup(self) -> str:
        """Its cgroup, relative to the host's root."""
        return f"system.slice/{self.name}.service"

    def to_wire(self) -> dict[str, Any]:
        """As JSON for the supervisor's socket."""
        return {
            "host": self.host,
            "name": self.name,
            "argv": list(self.argv),
            "environment": dict(self.environment),
            "stage": self.stage,
            "stop_seconds": self.stop_seconds,
            "keeps_children": self.keeps_children,
            "every_seconds": self.every_seconds,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Daemon:
        """The reverse of to_wire."""
        return cls(**{**wire, "argv": tuple(wire["argv"])})


class State(StrEnum):
    """Where a daemon is in its life."""

    RUNNING = "running"
    WAITING = "waiting"  # ended by itself; about to be started again
    STOPPED = "stopped"  # by request
    SCHEDULED = "scheduled"  # a job, between two runs


@dataclass(frozen=True, slots=True)
class Report:
    """What the supervisor says of a daemon."""

    host: str
    name: str
    state: State
    pid: int = 0
    started: float = 0.0
    """Unix time of the present (or last) start."""
    restarts: int = 0
    ended: str = ""
    """How it ended the last time it did so by itself."""

    @property
    def key(self) -> str:
        """HOST/NAME."""
        return f"{self.host}/{self.name}"


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start."""

    failures: int = 0

    def after_run_of(self, seconds: float) -> float:
        """The delay in seconds, after a run that lasted `seconds`: doubling, until a run has been long enough."""
        self.failures = 1 if seconds >= SETTLED_SECONDS else self.failures + 1
        return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (self.failures - 1)))


def describe_end(returncode: int) -> str:
    """A process's end in words."""
    return f"exit status {returncode}" if returncode >= 0 else f"killed by signal {-returncode}"
