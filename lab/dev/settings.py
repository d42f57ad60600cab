"""What `navarch dev` can be told, as one validated value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

STORES = ("sqlite", "memory")
MOST_HOLLOW_NODES = 5_000


@dataclass(frozen=True, slots=True)
class DevSettings:
    """Which store, where, and how many hollow nodes."""

    store: str = "sqlite"
    """`sqlite` keeps objects in a file of the data directory; with `memory` they are gone with the process."""
    port: int = 6443
    """The API server's port on 127.0.0.1; 0 takes a free one."""
    directory: Path | None = None
    """Where certificates, the kubeconfig and the store are; None: the user's own (`default_directory`)."""
    hollow_nodes: int = 0
    verbosity: int = 0

    def __post_init__(self) -> None:
        """Check what the command line's own checks can't. Raises LabError."""
        if not 0 <= self.port <= 65535:
            raise LabError(f"--port {self.port}: must be between 0 (any free port) and 65535")
        if not 0 <= self.hollow_nodes <= MOST_HOLLOW_NODES:
            raise LabError(f"--hollow-nodes {self.hollow_nodes}: must be between 0 and {MOST_HOLLOW_NODES}")


def default_directory() -> Path:
    """The user's own data directory. Raises LabError where there is no home.

    Source: XDG Base Directory Specification, XDG_STATE_HOME.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as exc:
        raise LabError("no home directory is known: say where to keep things with --data-dir DIR") from exc
    return base / "navarch" / "dev"
