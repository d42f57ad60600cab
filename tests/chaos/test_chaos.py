"""Everything that can go wrong goes wrong, one thing after another, and a client and a service go on.

NAVARCH_CHAOS_SECONDS bounds a run: no fault begins later. NAVARCH_CHAOS_ONLY chooses those whose names hold a text.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from faults import FAULTS, Fault
from seen import Asking, leaders, longest_silence, longest_trouble
from settled import spread, what_is_missing, workload
from traffic import check, traffic

if TYPE_CHECKING:
    from live_lab import Eventually, LiveLab

pytest_plugins = ["live_lab"]

SETTLE_SECONDS = 180
ALL_SECONDS = 3600


@pytest.mark.timeout(ALL_SECONDS + 600)
def test_nothing_that_goes_wrong_loses_anything(lab: LiveLab, namespace: str, eventually: Eventually) -> None:
    deadline = time.monotonic() + float(os.environ.get("NAVARCH_CHAOS_SECONDS") or ALL_SECONDS)
    chosen = [fault for fault in FAULTS if os.environ.get("NAVARCH_CHAOS_ONLY", "") in fault.name]
    lab.kubectl("apply", "-n", namespace, "-f", "-", stdin=workload())
    address = lab.get("service", "web", "-n", namespace)["spec"]["clusterIP"]
    lab.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(Asking.pod(address)))
    begun = datetime.now(UTC)
    missing = _until_nothing(lambda: what_is_missing(lab, namespace, begun), SETTLE_SECONDS)
    assert not missing, missing
    problems: list[str] = []
    done = 0
    with leaders(lab) as led:
        for fault in chosen:
            if time.monotonic() > deadline:
                break
            problems += [f"{fault.name}: {each}" for each in _suffer(lab, namespace, fault, eventually)]
            done += 1
    print(f"{done} of {len(chosen)} faults")
    assert done, "no time for a single fault"
    assert problems + led.problems() == []


def _suffer(lab: LiveLab, namespace: str, fault: Fault, eventually: Eventually) -> list[str]:
    """One fault from its beginning until all is as it was; what should not have happened."""
    spread(lab, namespace)
    writing = f"chaos-{secrets.token_hex(3)}"
    lab.kubectl("create", "namespace", writing)
    begun, problems = datetime.now(UTC), []
    try:
        with traffic(lab.layout.kubeconfig, writing, patience_seconds=90) as client:
            eventually(lambda: len(client.acknowledged) >= 5, 30, "the client writes")
            try:
                fault.begin(lab)
                time.sleep(fault.hold_seconds)
            finally:
                fault.end(lab)
            ended = datetime.now(UTC)
            missing = _until_nothing(lambda: what_is_missing(lab, namespace, ended), SETTLE_SECONDS)
            settled = (datetime.now(UTC) - ended).total_seconds()
        if missing:
            problems.append(f"not settled after {SETTLE_SECONDS} s: {missing}")
        try:
            check(client)
        except AssertionError as exc:
            problems.append(str(exc).splitlines()[0])
    finally:
        lab.kubectl("delete", "namespace", writing, "--wait=false", check=False)
    answers = Asking(lab, namespace).since(begun)
    silence, trouble = longest_silence(answers), longest_trouble(answers)
    print(
        f"{fault.name}: a write took up to {client.longest_seconds:.1f} s, the service was silent for {silence:.1f} s,"
        f" some requests failed for {trouble:.1f} s, all was well {settled:.1f} s after it ended",
        flush=True,
    )
    if client.longest_seconds > fault.write_seconds:
        problems.append(f"a write took {client.longest_seconds:.1f} s, not {fault.write_seconds} s")
    if max(silence, trouble) > fault.service_seconds:
        problems.append(f"requests to the service failed for {trouble:.1f} s, not {fault.service_seconds} s")
    return problems


def _until_nothing(ask: Callable[[], str], seconds: float) -> str:
    """The last answer when time is over, or "" as soon as that is the answer."""
    deadline = time.monotonic() + seconds
    while answer := ask():
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return answer
