"""Running a program to its end for what it prints."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lab.errors import LabError


def output(argv: Sequence[str], seconds: float, what: str) -> str:
    """What it prints. Raises LabError, which begins with `what`: what it said on failure, or that it took too long."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"{what}: not done after {seconds:g} s") from exc
    if done.returncode != 0:
        raise LabError(f"{what}: {done.stderr.strip() or done.stdout.strip() or f'exit status {done.returncode}'}")
    return done.stdout
