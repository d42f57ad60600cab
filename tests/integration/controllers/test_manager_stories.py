"""The manager as a whole: many changes are one look, and a controller that crashes harms nobody but itself."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace

import pytest
from controllers_cluster import background, cluster_manager, counted, pod_template, running_cluster, workload

from controlplane.controllers.environment import Environment
from machinery.api.catalogue import CONFIGMAPS, DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import Object, key_of
from machinery.controller import Controller

LAST = "40"


@dataclass
class Watcher:
    """A controller of ConfigMaps that can be held up in the middle of its work."""

    env: Environment
    seen: list[str] = field(default_factory=list)
    """The version (a field of the data) that each look found."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    shown: asyncio.Event = field(default_factory=asyncio.Event)
    """The cache has the last version."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def build(self) -> Controller:
        maps = self.env.informer(CONFIGMAPS)

        async def reconcile(key: str) -> float | None:
            version = (maps.get(key) or {})["data"]["version"]
            self.seen.append(version)
            self.begun.set()
            await self.go_on.wait()
            if version == "end":
                self.ended.set()
            return None

        def changed(old: Object | None, new: Object | None) -> None:
            version = ((new or {}).get("data") or {}).get("version")
            if new is not None and version is not None:
                controller.enqueue(key_of(new))
                if version == LAST:
                    self.shown.set()

        controller = Controller("burst", reconcile, workers=1)
        maps.on_change(changed)
        return controller


async def test_a_burst_of_changes_to_one_object_is_one_look_at_the_last_of_them() -> None:
    async with running_cluster() as cluster, cluster_manager(cluster, "serviceaccount") as manager:
        watcher = Watcher(manager.environment)
        more = replace(manager, by_name={**manager.by_name, "burst": [watcher.build()]})
        async with background(more.run()), asyncio.timeout(30):
            await cluster.admin.create(CONFIGMAPS, {"metadata": {"name": "m"}, "data": {"version": "0"}}, "default")
            await watcher.begun.wait()
            for version in range(1, int(LAST) + 1):
                await cluster.admin.patch(CONFIGMAPS, "m", {"data": {"version": str(version)}}, "default")
            await watcher.shown.wait()
            watcher.go_on.set()
            # One more object, looked at after all that came before: nothing of the burst is left over.
            await cluster.admin.create(CONFIGMAPS, {"metadata": {"name": "n"}, "data": {"version": "end"}}, "default")
            await watcher.ended.wait()
            assert watcher.seen == ["0", LAST, "end"]
            assert counted("workqueue_adds_total", name="burst") == 3


@dataclass
class Faulty:
    """A controller with a defect, until it is mended."""

    env: Environment
    mended: bool = False
    crashes: int = 0
    crashed_often: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def build(self) -> Controller:
        pods = self.env.informer(PODS)

        async def reconcile(key: str) -> float | None:
            if not self.mended:
                self.crashes += 1
                if self.crashes > 3:
                    self.crashed_often.set()
                raise ZeroDivisionError(f"no way to divide {key}")
            self.done.set()
            return None

        def broken_handler(old: Object | None, new: Object | None) -> None:
            raise KeyError("a handler with a defect")

        def broken_index(obj: Object) -> list[str]:
            raise IndexError("an index with a defect")

        controller = Controller("faulty", reconcile, workers=1)
        pods.add_index("faulty", broken_index)
        pods.on_change(broken_handler)
        pods.on_change(lambda old, new: controller.enqueue(key_of(new)) if new is not None else None)
        return controller


async def test_a_crash_in_one_controller_is_logged_counted_retried_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        running_cluster() as cluster,
        cluster_manager(cluster, "deployment,replicaset,serviceaccount") as manager,
    ):
        faulty = Faulty(manager.environment)
        # Its handlers come first, its work before that of all others.
        more = replace(manager, by_name={"faulty": [faulty.build()], **manager.by_name})
        with caplog.at_level(logging.ERROR):
            async with background(more.run()):
                await cluster.admin.create(DEPLOYMENTS, workload(DEPLOYMENTS, "web", replicas=2))
                await cluster.until(PODS, lambda found: len(found) == 2)
                # It has crashed by now, and does so again and again; the others go on meanwhile.
                async with asyncio.timeout(15):
                    await faulty.crashed_often.wait()
                assert counted("workqueue_retries_total", name="faulty") >= 3
                await cluster.admin.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "default")
                await cluster.until(PODS, lambda found: len(found) == 3)
                image = {"spec": {"template": pod_template("web:2")}}
                await cluster.admin.patch(DEPLOYMENTS, "web", image, "default")
                await cluster.until(REPLICASETS, lambda found: len(found) == 2)
                for controller in more.controllers:
                    await controller.check()  # even the faulty one runs
                faulty.mended = True
                async with asyncio.timeout(15):
                    await faulty.done.wait()
    crashes = [r for r in caplog.records if getattr(r, "fields", {}).get("controller") == "faulty"]
    assert crashes
    assert crashes[0].getMessage() == "reconcile failed"
    assert "ZeroDivisionError: no way to divide default/web-" in crashes[0].fields["err"]  # type: ignore[attr-defined]
    assert crashes[0].exc_info is not None, "a defect is logged with its stack"
    assert {"change handler failed", "index failed"} <= {r.getMessage() for r in caplog.records}
