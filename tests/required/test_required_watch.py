"""Watches of config maps: what they tell, from where, in which order."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

import pytest
from cluster import Cluster, requirement
from watching import Watching, watching

from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

_LABEL = "watch-this-configmap"


async def _make(cluster: Cluster, name: str, label: str) -> Object:
    return await cluster.create(CONFIGMAPS, {"metadata": {"name": name, "labels": {_LABEL: label}}})


async def _mutate(cluster: Cluster, name: str, value: str) -> Object:
    return await cluster.patch(CONFIGMAPS, name, {"data": {"mutation": value}})


async def _label(cluster: Cluster, name: str, label: str) -> Object:
    return await cluster.patch(CONFIGMAPS, name, {"metadata": {"labels": {_LABEL: label}}})


async def _told(kind: str, obj: Object | None, *watches: Watching) -> None:
    """The next event of each is this one: so none was told anything else before."""
    for seen in watches:
        found = await seen.then(kind)
        assert obj is None or found == obj


@requirement(
    "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]"
)
async def test_watches_tell_of_what_they_select(cluster: Cluster) -> None:
    async with (
        watching(cluster, CONFIGMAPS, label_selector=f"{_LABEL} in (a)") as of_a,
        watching(cluster, CONFIGMAPS, label_selector=f"{_LABEL} in (b)") as of_b,
        watching(cluster, CONFIGMAPS, label_selector=f"{_LABEL} in (a,b)") as of_both,
    ):
        for name, watches in (("a", (of_a, of_both)), ("b", (of_b, of_both)), ("a", (of_a, of_both))):
            await _told("ADDED", await _make(cluster, name, name), *watches)
            for value in ("1", "2"):
                await _told("MODIFIED", await _mutate(cluster, name, value), *watches)
            await cluster.delete(CONFIGMAPS, name)
            await _told("DELETED", None, *watches)


@requirement(
    "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]"
)
async def test_watch_starts_from_a_revision(cluster: Cluster) -> None:
    await _make(cluster, "cm", "x")
    first = await _mutate(cluster, "cm", "1")
    second = await _mutate(cluster, "cm", "2")
    await cluster.delete(CONFIGMAPS, "cm")
    since = first["metadata"]["resourceVersion"]
    async with watching(cluster, CONFIGMAPS, since=since, label_selector=f"{_LABEL}=x") as seen:
        await _told("MODIFIED", second, seen)
        await _told("DELETED", None, seen)


@requirement(
    "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch [Conformance]"
)
async def test_watch_goes_on_where_the_last_ended(cluster: Cluster) -> None:
    async with watching(cluster, CONFIGMAPS, label_selector=f"{_LABEL}=x") as seen:
        await _told("ADDED", await _make(cluster, "cm", "x"), seen)
        await _mutate(cluster, "cm", "1")
        last = await seen.then("MODIFIED")
    second = await _mutate(cluster, "cm", "2")
    since = last["metadata"]["resourceVersion"]
    async with watching(cluster, CONFIGMAPS, since=since, label_selector=f"{_LABEL}=x") as seen:
        await cluster.delete(CONFIGMAPS, "cm")
        await _told("MODIFIED", second, seen)
        await _told("DELETED", None, seen)


@requirement(
    "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]"
)
async def test_object_that_is_no_longer_selected_is_told_as_deleted(cluster: Cluster) -> None:
    async with watching(cluster, CONFIGMAPS, label_selector=f"{_LABEL}=right") as seen:
        await _told("ADDED", await _make(cluster, "cm", "right"), seen)
        await _told("MODIFIED", await _mutate(cluster, "cm", "1"), seen)
        await _label(cluster, "cm", "wrong")
        await _told("DELETED", None, seen)
        await _mutate(cluster, "cm", "2")  # not told: the next event is another
        await _told("ADDED", await _label(cluster, "cm", "right"), seen)
        await _told("MODIFIED", await _mutate(cluster, "cm", "3"), seen)
        await cluster.delete(CONFIGMAPS, "cm")
        await _told("DELETED", None, seen)


async def _produce(cluster: Cluster) -> None:
    for number in itertools.count():
        name = f"cm-{number % 5}"
        await _make(cluster, name, "x")
        await _mutate(cluster, name, str(number))
        await cluster.client.delete(CONFIGMAPS, name, cluster.namespace)


@requirement("[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]")
async def test_watches_tell_in_the_same_order(cluster: Cluster) -> None:
    version: Any = (await cluster.client.list(CONFIGMAPS, cluster.namespace)).resource_version
    producer = asyncio.create_task(_produce(cluster))
    try:
        async with AsyncExitStack() as stack:
            watches: list[Watching] = []
            for _ in range(100):
                watches.append(await stack.enter_async_context(watching(cluster, CONFIGMAPS, since=version)))
                told = [(await each.next()).object["metadata"]["resourceVersion"] for each in watches]
                assert len(set(told)) == 1
                version = told[0]
    finally:
        producer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await producer
