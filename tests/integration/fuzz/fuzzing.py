"""How many examples fuzzing tests make.

HYPOTHESIS examples are the same in each run; NAVARCH_FUZZ_EXAMPLES makes more of them, others each time.
"""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("NAVARCH_FUZZ_EXAMPLES", "0"))
CHANCES = st.integers(0, 2**32).map(random.Random)


def bounded(examples: int) -> settings:
    """So many examples, unless more are asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
