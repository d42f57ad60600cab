"""`navarch test`: the checks on the source, and the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from lab.errors import LabError
from lab.layout import PROJECT, Layout
from lab.progress import console
from lab.verbs import clients, look
from lab.vms.place import Place

CHECKS: tuple[tuple[str, ...], ...] = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)

SUITES = {
    "unit": ["tests/unit", "tests/conformance"],
    "integration": ["tests/integration"],
    "e2e": ["tests/e2e"],
    "required": ["tests/required"],
    "chaos": ["tests/chaos"],
    "vms": ["tests/e2e/test_e2e_cluster.py", "tests/e2e/test_e2e_web.py", "tests/vms"],
    "clients": ["tests/clients"],
    "consistency": ["tests/integration/consistency"],
    "all": ["tests/unit", "tests/conformance", "tests/integration", "tests/clients/kubectl", "tests/e2e"],
}


_TORN = ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
_OPTIONS = {"chaos": ["-s", "-p", "no:hypothesispytest", *_TORN], "vms": _TORN}
"""Of suites whose tests print what they measured, or whose faults tear the tests' own connections apart: CPython 3.11
does not close a connection whose TLS handshake is cancelled, and may fail to parse a module ("AST constructor recursion
depth mismatch") when one is collected meanwhile. Hypothesis' plugin, useless here, imports its modules at the end."""
_AT_ONCE = 4
"""Tests of the suite `required` that share the lab: they wait for pods most of their time."""


_NEED = {"all": (3, 2), "e2e": (3, 2), "chaos": (3, 2), "required": (1, 2)}
"""How many control planes and workers the lab must have on which a suite runs, if one is there."""


def test(suite: str) -> int:
    """Run a suite (`all`: the checks too); the exit status is that of the first that fails, or 0.

    Raises LabError when the lab that is there has too few hosts.
    """
    layout = Layout.from_environment()
    if layout.topology_file.exists():
        _check_hosts(layout, *_NEED.get(suite, (0, 0)))
    if suite == "vms" and not Place(layout).exists():
        return _with_lab(suite, "--vms")
    if suite == "required":
        if not layout.topology_file.exists():
            return _with_lab(suite, "--control-planes", "1")
        clients.prepare_kubectl("new")
        pytest = [sys.executable, "-m", "pytest", *SUITES[suite]]
        return _first_failure([_run([*pytest, f"-n{_AT_ONCE}", "-m", "not serial"]), _run([*pytest, "-m", "serial"])])
    statuses = []
    if suite == "clients":
        clients.prepare()
    if suite == "consistency":
        os.environ.setdefault("NAVARCH_CONSISTENCY_SECONDS", "600")
    if suite == "all":
        clients.prepare_kubectl("oldest", "new")
        for check in CHECKS:
            console.rule(" ".join(check), style="dim")
            statuses.append(_run(_program(check)))
    folders = [name for name in SUITES[suite] if name.endswith(".py") or any((PROJECT / name).rglob("test_*.py"))]
    console.rule("pytest " + " ".join(folders), style="dim")
    statuses.append(_run([sys.executable, "-m", "pytest", *_OPTIONS.get(suite, ()), *folders]))
    return _first_failure(statuses)


def _check_hosts(layout: Layout, control_planes: int, workers: int) -> None:
    topology = look.topology_of(layout)
    there = len(topology.control_plane_hosts), len(topology.worker_hosts)
    if there[0] < control_planes or there[1] < workers:
        raise LabError(
            f"the lab that is there is too small for these tests (control planes: {there[0]} of {control_planes}, "
            f"workers: {there[1]} of {workers}): run `navarch down` first, or name another lab in NAVARCH_LAB"
        )


def _first_failure(statuses: Sequence[int]) -> int:
    return next((status for status in statuses if status), 0)


def _with_lab(suite: str, *options: str) -> int:
    """The suite, on a lab that is there for it alone."""
    navarch = [sys.executable, "-P", "-m", "lab"]
    try:
        return _run([*navarch, "up", *options]) or test(suite)
    finally:
        _run([*navarch, "down"])


def _program(check: Sequence[str]) -> list[str]:
    """The tool of this virtual environment, not of another."""
    return [f"{sys.prefix}/bin/{check[0]}", *check[1:]]


def _run(argv: Sequence[str]) -> int:
    sys.stdout.flush()
    return subprocess.run(argv, cwd=PROJECT, check=False).returncode
