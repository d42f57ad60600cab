"""One pod's worker: brings the pod where its spec wants it, keeps it there, and takes it away in the end.

    syncing ──(deleted, evicted, all done)──► terminating ──► ended ──(removed from the API)──► forgotten

There is one task for each pod. It is woken by changes of the spec, of the runtime, of probe verdicts and of referred
objects, looks at everything afresh each time (level-triggered), and does the next steps of `plan`.

Source: kubelet's pod_workers.go, syncPod, syncTerminatingPod, syncTerminatedPod.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from typing import Any

from agent.cri.errors import CriError
from agent.kubelet import metrics
from agent.kubelet.container.errors import ContainerConfigError, ImageError, StartError
from agent.kubelet.container.lifecycle import Hooks
from agent.kubelet.container.model import RuntimePod
from agent.kubelet.container.starter import PodStart, Starter
from agent.kubelet.kit import Kit
from agent.kubelet.pods import ending, spec
from agent.kubelet.pods.crashes import CrashPause, crash_pause
from agent.kubelet.pods.mirror import Mirrors
from agent.kubelet.pods.phase import TERMINAL
from agent.kubelet.pods.plan import Plan, ProbeVerdicts, plan_pod
from agent.kubelet.pods.preparation import Preparation
from agent.kubelet.pods.reporter import Reporter
from agent.kubelet.pods.resize import Resizing
from agent.kubelet.pods.startup import Startup
from agent.kubelet.pods.status import Verdict, Waiting
from agent.kubelet.resources.topologymanager import AdmissionError
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import meta
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

_RETRY_SECONDS = 10.0  # after something failed that nothing will tell us about
_NETWORK_RETRY_SECONDS = 1.0
_MIRROR_RETRY_SECONDS = 5.0
_SANDBOX_RETRIES = (1.0, 2.0, 5.0, 10.0)
_IMAGE_SHOW_SECONDS = 2.0  # until ErrImagePull becomes ImagePullBackOff
_MAX_STEPS = 100


class PodWorker:
    """The worker of one pod. `run()` ends when nothing of the pod is left."""

    def __init__(self, kit: Kit, starter: Starter, hooks: Hooks, mirrors: Mirrors, pod: Object) -> None:
        self.pod = pod
        self.uid = meta.uid_of(pod)
        self._resizing = Resizing(kit)
        self.reporter = Reporter(kit, self.uid, self._resizing)
        self._preparation = Preparation(kit)
        self._kit, self._starter, self._hooks, self._mirrors = kit, starter, hooks, mirrors
        self._wake = asyncio.Event()
        self._sync_task: asyncio.Task[float | None] | None = None
        self._verdict: Verdict | None = None
        self._rejection: Verdict | None = None
        self._gone = False
        self._grace_seconds: float | None = None  # the shortest that anyone has asked for
        self._sandbox_failures = 0
        self._promised = pod  # the pod with the resources that it has been promised
        self._due_in: float = kit.settings.sync_seconds
        self._seen: RuntimePod | None = None
        self._dirty = True
        self._startup = Startup(pod, kit.clock)
        self._operation = "create"  # what the next sync is for
        self.is_ended = False  # nothing runs any more; volumes and groups are gone

    # -- told from outside -------------------------------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """The pod's object changed."""
        self.pod = pod
        self._dirty = True
        self._operation = "update"
        self._preparation.expire()  # labels and annotations may be in its files
        if meta.is_deleting(pod):
            self.shorten_grace(spec.grace_of(pod))
            self._interrupt()
        self.wake()

    def refresh(self) -> None:
        """Something that the pod refers to changed: its volumes may need new contents."""
        self._preparation.expire()
        self._dirty = True
        self.wake()

    def probe_changed(self) -> None:
        """A probe has a new verdict."""
        self._dirty = True
        self.wake()

    def wake(self) -> None:
        """Look again."""
        self._wake.set()

    def remove(self) -> None:
        """The pod is no longer wanted, and nobody is left to report to."""
        self._gone = True
        if self._grace_seconds is None:
            self.shorten_grace(spec.grace_of(self.pod))
        self._interrupt()
        self.wake()

    def end(self, verdict: Verdict, grace_seconds: float | None = None) -> None:
        """End the pod as failed: rejected, evicted, over its deadline."""
        if self._verdict is None:
            self._verdict = verdict
        self.shorten_grace(spec.grace_of(self.pod) if grace_seconds is None else grace_seconds)
        self._dirty = True
        self._interrupt()
        self.wake()

    def reject(self, verdict: Verdict) -> None:
        """Never start the pod: this node doesn't take it. Only before anything of it was made."""
        self._kit.teller.pod(self.pod, "Warning", verdict.reason, verdict.message)
        self._kit.topology.forget(self.uid)
        self._rejection = verdict

    def shorten_grace(self, seconds: float) -> None:
        """A grace period only ever gets shorter; the shortest is a second."""
        seconds = max(seconds, 1.0)
        self._grace_seconds = seconds if self._grace_seconds is None else min(seconds, self._grace_seconds)

    @property
    def is_removed(self) -> bool:
        """Whether the pod is no longer wanted."""
        return self._gone

    @property
    def is_ending(self) -> bool:
        """Whether the pod is being terminated, or has been."""
        return self._gone or self._verdict is not None or meta.is_deleting(self.pod) or self.is_ended

    @property
    def waits_for_room(self) -> bool:
        """Whether the pod wants more than the node can give now."""
        return self._resizing.is_pending

    def _interrupt(self) -> None:
        if self._sync_task is not None:
            self._sync_task.cancel()

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live through the pod's whole life."""
        self._startup.began(self.pod)
        if self._rejection is None:
            await self._interruptible(self._ask_for_devices())
        if self._rejection is not None:
            self.reporter.reject(self.pod, self._rejection)
            await ending.stop(self._kit, self._hooks, self)
        else:
            await self._keep_syncing()
            self._kit.probes.ending(self.uid)
            await ending.terminate(self._kit, self._hooks, self)
        self.is_ended = True
        while not (self._gone or meta.is_deleting(self.pod)):
            self._wake.clear()
            await self._wake.wait()
        await ending.forget(self._kit, self._hooks, self._mirrors, self, in_api=not self._gone)

    @property
    def grace_seconds(self) -> float:
        """How long containers have to end."""
        return spec.grace_of(self.pod) if self._grace_seconds is None else self._grace_seconds

    @property
    def verdict(self) -> Verdict | None:
        """Why the pod was ended, if by something other than its containers."""
        return self._verdict

    @property
    def changes(self) -> asyncio.Event:
        """Set whenever there is something new to look at."""
        return self._wake

    async def _keep_syncing(self) -> None:
        while not self.is_ending:
            self._wake.clear()
            if self._dirty or self._seen is not self._kit.view.pods.get(self.uid):
                self._dirty = False
                ended = await self._sync_once()
                if ended:
                    return
            try:
                async with asyncio.timeout(self._due_in):
                    await self._wake.wait()
            except TimeoutError:
                self._dirty = True

    async def _sync_once(self) -> bool:
        """One sync, which a deletion interrupts; whether the pod has come to its end."""
        operation, self._operation = self._operation, "sync"
        with metrics.timed(metrics.POD_WORKER.labels(operation)):
            try:
                found = await self._interruptible(self._sync())
            finally:
                await self._preparation.stop()
        if found is None:
            return False  # interrupted: the loop sees why
        (due,) = found
        if due is None:
            return True
        self._due_in = due
        return False

    async def _interruptible(self, work: Coroutine[Any, Any, float | None]) -> tuple[float | None] | None:
        """What some work came to; None if a deletion interrupted it."""
        self._sync_task = asyncio.create_task(work, name=f"sync {meta.key_of(self.pod)}")
        try:
            return (await self._sync_task,)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if own is not None and own.cancelling():
                raise
            return None
        finally:
            self._sync_task = None

    async def _ask_for_devices(self) -> None:
        """Device plugins have the last word in whether the pod is taken."""
        try:
            await self._kit.devices.ask(self.pod)
        except AdmissionError as error:
            self.reject(error.verdict())

    async def _sync(self) -> float | None:
        """Do what there is to do; seconds until another look is due, or None when the pod has come to its end."""
        kit = self._kit
        pod = self._promised = self._resizing.decide(self.pod, kit.view.pod(self.uid), kit.active_pods())
        self._due_in = kit.settings.sync_seconds * random.uniform(1.0, 1.5)
        status = self.reporter.publish(pod)
        if status["phase"] in TERMINAL or self._is_over_deadline(status):
            return None
        if not await self._mirrors.ensure(pod):
            self._due(_MIRROR_RETRY_SECONDS)
        if kit.node.network_error and not spec.is_host_network(pod):
            kit.teller.pod(pod, "Warning", "NetworkNotReady", f"network is not ready: {kit.node.network_error}")
            return _NETWORK_RETRY_SECONDS
        kit.references.use(pod)
        may_start = await self._preparation.make(pod, kit.view.pod(self.uid))
        if may_start:
            await self._carry_out_plans()
            await self._preparation.finish()  # nothing may have had to be started
        if self._preparation.retry_seconds:
            self._due(self._preparation.retry_seconds)
        if not may_start:
            return self._due_in
        if not await self._resizing.give(pod, kit.view.pod(self.uid)):
            self._due(_RETRY_SECONDS)
        runtime = self._seen = kit.view.pod(self.uid)
        status = self.reporter.publish(pod)
        kit.probes.follow(pod, runtime, status)
        self._startup.seen(pod, status, kit.images.pull_seconds)
        return None if status["phase"] in TERMINAL else self._due_in

    def _due(self, seconds: float) -> None:
        self._due_in = max(0.05, min(self._due_in, seconds))

    def _is_over_deadline(self, status: Object) -> bool:
        left = spec.seconds_left(self.pod, meta.parse_time(status["startTime"]), self._kit.clock.now())
        if left is None:
            return False
        if left > 0:
            self._due(left)
            return False
        told = "Pod was active on the node longer than the specified deadline"
        self._kit.teller.pod(self.pod, "Normal", "DeadlineExceeded", told)
        self._verdict = Verdict("DeadlineExceeded", told)
        self.reporter.publish(self.pod, verdict=self._verdict)
        return True

    # -- plans -------------------------------------------------------------------------------------------------------

    async def _carry_out_plans(self) -> None:
        kit = self._kit
        for _ in range(_MAX_STEPS):
            runtime = kit.view.pod(self.uid)
            restarts = {kill.container.id: kill for kill in self._resizing.restarts(self._promised, runtime)}
            plan = plan_pod(self._promised, runtime, ProbeVerdicts(kit.probes.startup, kit.probes.liveness, restarts))
            if plan.is_empty or not await self._carry_out(plan):
                return
        self._due(_RETRY_SECONDS)

    async def _carry_out(self, plan: Plan) -> bool:
        """Do one plan; whether there may be more to do at once."""
        kit, pod = self._kit, self._promised
        runtime = kit.view.pod(self.uid)
        try:
            if plan.create_sandbox and plan.sandbox_changed:
                told = "Pod sandbox changed, it will be killed and re-created."
                kit.teller.pod(pod, "Normal", "SandboxChanged", told)
            if plan.kill_pod:
                await self._hooks.stop_all(pod, runtime, self.grace_seconds)
                if not plan.create_sandbox:
                    return False
            if plan.reset:
                self.reporter.publish(pod)  # tells that all containers restart, before they do
                await self._hooks.reset(pod, runtime, plan.reset, self.grace_seconds)
                return True
            for kill in plan.kills:
                await self._hooks.stop(pod, kill.container, kill.grace_seconds(self.pod), message=kill.message)
        except CriError as error:
            kit.teller.pod(pod, "Warning", "FailedKillPod", f"error killing pod: {error}")
            self._due(_RETRY_SECONDS)
            return False
        return await self._bring_up(plan)

    async def _bring_up(self, plan: Plan) -> bool:
        kit, pod = self._kit, self._promised
        if not (plan.create_sandbox or plan.ephemeral or plan.init or plan.start):
            return True
        try:
            handler = await kit.runtime_classes.handler(pod["spec"].get("runtimeClassName") or "")
            config = self._starter.sandbox_config(pod, plan.attempt, handler)
            if plan.create_sandbox:
                sandbox_id = await self._starter.run_sandbox(pod, config, handler)
            else:
                sandbox = kit.view.pod(self.uid).ready_sandbox
                if sandbox is None:
                    return True
                sandbox_id = sandbox.id
        except StartError as error:
            log.error("cannot make sandbox", pod=meta.key_of(pod), error=error)
            self._due(_SANDBOX_RETRIES[min(self._sandbox_failures, len(_SANDBOX_RETRIES) - 1)])
            self._sandbox_failures += 1
            return False
        self._sandbox_failures = 0
        if not await self._preparation.finish():
            return False
        start = PodStart(pod, config, sandbox_id, self.volumes, await self._starter.pull_secrets(pod), handler)
        return await self._start_containers(plan, start)

    async def _start_containers(self, plan: Plan, start: PodStart) -> bool:
        started = 0
        for container in plan.ephemeral:
            started += await self._try_start(start, container)
        for container in plan.init:
            done = await self._try_start(start, container)
            started += done
            if not done and not spec.is_sidecar(container):
                return False
        if plan.init and started:
            self._kit.view.expect_exit()
        for container in plan.start:
            started += await self._try_start(start, container)
        if started and spec.restart_policy(self.pod) != "Always":
            self._kit.view.expect_exit()
        # Only what changed something can have opened the way for more, or have ended by now.
        return started > 0 and (bool(plan.init) or started == len(plan.ephemeral) + len(plan.start))

    async def _try_start(self, start: PodStart, container: Object) -> bool:
        """Start one container if its back-off allows; whether it was started."""
        kit, name = self._kit, container["name"]
        runtime = kit.view.pod(self.uid)
        pause: CrashPause | None = crash_pause(kit.crashes, self.pod, container, runtime)
        if pause is not None:
            kit.teller.pod(self.pod, "Warning", "BackOff", pause.event, container=name)
            self.reporter.waiting[name] = Waiting("CrashLoopBackOff", pause.message)
            self._due(pause.seconds)
            self.reporter.publish(self._promised)
            return False
        try:
            await self._starter.start(start, container, runtime)
        except StartError as error:
            self.reporter.waiting[name] = Waiting(error.reason, error.message)
            self._due(self._retry_after(error, container))
            self.reporter.publish(self._promised)
            return False
        self.reporter.waiting.pop(name, None)
        kit.cgroups.settle(self._promised)
        return True

    def _retry_after(self, error: StartError, container: Object) -> float:
        if isinstance(error, ImageError):
            if error.reason == "ImagePullBackOff":
                return self._kit.images.retry_in(self.pod, container)
            return _IMAGE_SHOW_SECONDS if error.reason in ("ErrImagePull", "RegistryUnavailable") else _RETRY_SECONDS
        if isinstance(error, ContainerConfigError):
            self._preparation.expire()
        return _RETRY_SECONDS

    @property
    def volumes(self) -> Mapping[str, MountedVolume]:
        """The pod's volumes that are ready."""
        return self._preparation.volumes or {}

    @property
    def log_directory(self) -> str:
        """Where the pod's logs are."""
        return self._kit.log_directory(self.pod)
