"""Events of the scheduler on a real API server: what is sent, what is only counted, and what becomes of long notes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from scheduler_lab import api_client, seen

from controlplane.scheduler.recorder import FAILED, SCHEDULED, Recorder
from machinery.api.catalogue import EVENTS_K8S_IO
from machinery.client.rest import Client
from machinery.testing.clock import FakeClock


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with api_client() as client:
        yield client


@contextlib.asynccontextmanager
async def recording(client: Client, clock: FakeClock) -> AsyncIterator[Recorder]:
    recorder = Recorder(client, "host", clock)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pod(version: str = "1", namespace: str = "default") -> dict[str, Any]:
    metadata = {"name": "p", "namespace": namespace, "uid": "u", "resourceVersion": version}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


async def test_the_same_again_is_a_series_and_another_state_of_the_pod_is_not(client: Client) -> None:
    clock = FakeClock()
    async with recording(client, clock) as recorder:
        recorder.record(pod(), "default-scheduler", FAILED, "no room")
        await seen(client, EVENTS_K8S_IO, lambda events: len(events) == 1)
        for _ in range(3):
            recorder.record(pod(), "default-scheduler", FAILED, "no room")
        events = await seen(client, EVENTS_K8S_IO, lambda events: bool(events[0].get("series")))
        assert events[0]["series"]["count"] == 2
        assert events[0]["reportingInstance"] == "default-scheduler-host"
        assert (events[0]["type"], events[0]["reason"], events[0]["action"]) == (
            *("Warning", "FailedScheduling", "Scheduling"),
        )
        await clock.advance(1)
        recorder.record(pod("2"), "default-scheduler", FAILED, "no room")
        await seen(client, EVENTS_K8S_IO, lambda events: len(events) == 2)


async def test_a_series_ends_after_a_while(client: Client) -> None:
    clock = FakeClock()
    async with recording(client, clock) as recorder:
        recorder.record(pod(), "s", SCHEDULED, "x")
        await clock.advance(400)
        recorder.record(pod(), "s", SCHEDULED, "x")
        events = await seen(client, EVENTS_K8S_IO, lambda events: len(events) == 2)
        assert not any(event.get("series") for event in events)


async def test_a_long_note_is_cut_and_a_refusal_ends_nothing(client: Client) -> None:
    async with recording(client, FakeClock()) as recorder:
        recorder.record(pod(namespace="no-such-namespace"), "s", FAILED, "refused")
        recorder.record(pod(), "s", FAILED, "x" * 2000)
        events = await seen(client, EVENTS_K8S_IO, bool)
        assert len(events[0]["note"]) == 1024
        assert events[0]["note"].endswith("x ...")
