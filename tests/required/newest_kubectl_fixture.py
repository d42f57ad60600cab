"""The fixture of tests that show what is required of kubectl."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster
from newest_kubectl import PROGRAM


@pytest.fixture
def newest(cluster: Cluster) -> Cluster:
    """The live cluster, to be used by the newest kubectl (`navarch test required` installs it)."""
    assert PROGRAM.exists(), "python -c 'from lab.verbs import clients; clients.prepare_kubectl(\"new\")'"
    return replace(cluster, program=str(PROGRAM))
