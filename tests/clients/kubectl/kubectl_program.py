"""kubectl as a program: run, told to fail, and read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from machinery.testing.cluster import Cluster

WAIT = "--timeout=30s"


@dataclass(frozen=True)
class Kubectl:
    """One kubectl, in a namespace of a cluster and a folder of its own."""

    program: str
    cluster: Cluster
    namespace: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str, stdin: str = "", status: int = 0, environment: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        """Run it; both its outputs. The exit status must be `status`."""
        argv = [self.program, "--namespace", self.namespace, *arguments]
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.folder,
            env={**self.cluster.environment(), **self.environment, **environment},
        )
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        """`get … -o json`, parsed."""
        return json.loads(self("get", *arguments, "-o", "json"))

    def file(self, name: str, text: str) -> str:
        """A file in its folder; the name."""
        (self.folder / name).write_text(text)
        return name
