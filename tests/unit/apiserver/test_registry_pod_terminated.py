"""Reports that a container runs again that had ended."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation.terminated import came_back

RULES = {"exitCodes": {"operator": "In", "values": [42]}}


def report(kind: str, **state: Any) -> dict[str, Any]:
    return {f"{kind.removesuffix('s')}Statuses": [{"name": "c", "state": state}]}


def refused(spec: dict[str, Any], code: int, kind: str = "containers") -> list[str]:
    return [str(e) for e in came_back(report(kind, running={}), report(kind, terminated={"exitCode": code}), spec)]


@pytest.mark.parametrize(
    ("of_pod", "own", "code", "allowed"),
    [
        ("Always", {}, 0, True),
        ("OnFailure", {}, 0, False),
        ("OnFailure", {}, 1, True),
        ("Never", {}, 1, False),
        ("Never", {"restartPolicy": "Always"}, 0, True),
        ("Always", {"restartPolicy": "Never"}, 1, False),
        ("Never", {"restartPolicyRules": [{"action": "Restart", **RULES}]}, 42, True),
        ("Never", {"restartPolicyRules": [{"action": "Restart", **RULES}]}, 41, False),
        ("Never", {"restartPolicyRules": [{"action": "RestartAllContainers", **RULES}]}, 0, True),
    ],
)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_only_a_container_that_may_restart_comes_back(
    kind: str, of_pod: str, own: dict[str, Any], code: int, allowed: bool
) -> None:
    found = refused({"restartPolicy": of_pod, kind: [{"name": "c", **own}]}, code, kind)
    where = f"status.{kind.removesuffix('s')}Statuses[0].state"
    assert found == ([] if allowed else [f"{where}: Forbidden: may not be transitioned to non-terminated state"])


def test_one_container_that_restarts_all_lets_the_others_come_back_but_ephemeral_ones() -> None:
    watcher = {"name": "w", "restartPolicyRules": [{"action": "RestartAllContainers", **RULES}]}
    spec = {
        "restartPolicy": "Never",
        "initContainers": [watcher],
        "containers": [{"name": "c"}],
        "ephemeralContainers": [{"name": "c"}],
    }
    assert refused(spec, 0) == []
    assert len(refused(spec, 0, "ephemeralContainers")) == 1


def test_a_container_that_stays_ended_or_is_no_longer_told_of_is_no_matter() -> None:
    ended = report("containers", terminated={"exitCode": 1})
    spec = {"restartPolicy": "Never", "containers": [{"name": "c"}]}
    assert came_back(ended, ended, spec) == []
    assert came_back({}, ended, spec) == []
