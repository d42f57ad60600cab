"""The server that fuzzing tests send their examples to, as a fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzzed_server import FuzzedServer, fuzzed_server


@pytest.fixture(scope="module")
def server() -> Iterator[FuzzedServer]:
    """An API server that must be well in the end."""
    with fuzzed_server() as running:
        yield running
        assert running.is_well()
