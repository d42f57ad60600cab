"""All pods of this node: who is wanted (API, static files), who is there (runtime), and a worker for each.

Source: kubelet's syncLoop, pod manager and HandlePodCleanups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from agent.kubelet import metrics
from agent.kubelet.container.lifecycle import Hooks
from agent.kubelet.container.model import RuntimePod
from agent.kubelet.container.starter import Starter
from agent.kubelet.kit import Kit
from agent.kubelet.pods import admission, conditions, preemption, spec
from agent.kubelet.pods.ending import remove_orphan_logs
from agent.kubelet.pods.mirror import Mirrors
from agent.kubelet.pods.phase import TERMINAL
from agent.kubelet.pods.status import Verdict
from agent.kubelet.pods.worker import PodWorker
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import meta
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

_HOUSEKEEPING_SECONDS = 5.0
_FAILED_WORKER_SECONDS = 10.0
_ORPHAN_GRACE_SECONDS = 1


class PodManager:
    """Holds the workers of all pods. `run()` lives as long as the kubelet."""

    def __init__(self, kit: Kit, mirrors: Mirrors, node: Callable[[], Object]) -> None:
        """`node()` is this node's object; empty before it is registered."""
        self._kit = kit
        self._mirrors = mirrors
        self._hooks = Hooks(kit)
        self._starter = Starter(kit, self._hooks)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[Object]] = {}  # static pods whose predecessors of the same name still end
        self._static: dict[str, Mapping[str, Object]] = {}  # by source and uid
        self._group: asyncio.TaskGroup | None = None
        self._sources: set[str] = set()  # that have not yet said what they want
        self._housekeep = asyncio.Event()
        self._node = node
        self.gates: list[Callable[[Object], Verdict | None]] = []  # who else has a say in what pods the node takes

    # -- asked from outside ------------------------------------------------------------------------------------------

    @property
    def pods(self) -> list[Object]:
        """Every pod that has a worker."""
        return [worker.pod for worker in self._workers.values()]

    @property
    def active_pods(self) -> list[Object]:
        """Pods that use the node's resources."""
        found = (w.pod for w in self._workers.values() if not w.is_ended and w.verdict is None and not _is_done(w.pod))
        return [self._kit.allocations.pod(pod) for pod in found]

    def worker(self, uid: str) -> PodWorker | None:
        """The worker of a pod."""
        return self._workers.get(uid)

    def volumes_of(self, uid: str) -> Mapping[str, MountedVolume]:
        """The volumes of a pod that are ready, by name."""
        worker = self._workers.get(uid)
        return worker.volumes if worker is not None else {}

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of the pod of this name; of several (one of them ending) the newest."""
        found = [
            w for w in self._workers.values() if meta.name_of(w.pod) == name and meta.namespace_of(w.pod) == namespace
        ]
        return next((w for w in found if not w.is_ending), found[-1] if found else None)

    @property
    def static_keys(self) -> set[str]:
        """Keys of all static pods."""
        return {meta.key_of(w.pod) for w in self._workers.values() if spec.is_static(w.pod) and not w.is_ending}

    # -- told from outside -------------------------------------------------------------------------------------------

    def expect(self, source: str) -> None:
        """Nothing is taken for an orphan before this source has said what it wants."""
        self._sources.add(source)

    def ready(self, source: str) -> None:
        """The source has said what it wants."""
        self._sources.discard(source)
        self._housekeep.set()

    def runtime_changed(self, uid: str) -> None:
        """The runtime holds something else of this pod than before."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()
        else:
            self._housekeep.set()

    def probe_changed(self, uid: str) -> None:
        """A probe of this pod has a new verdict."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.probe_changed()

    def reference_changed(self, uid: str) -> None:
        """Something that this pod refers to changed."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.refresh()

    def api_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod that the API server binds to this node changed: an informer's handler."""
        pod = new if new is not None else old
        if pod is None:
            return
        if spec.is_mirror(pod):
            self._mirror_changed(pod, gone=new is None)
        elif new is None:
            worker = self._workers.get(meta.uid_of(pod))
            if worker is not None:
                worker.remove()
        else:
            self._want(new, changed=old is None or _differs(old, new))
            self._kit.statuses.seen(meta.uid_of(new), new)

    def _mirror_changed(self, mirror: Object, *, gone: bool) -> None:
        key = meta.key_of(mirror)
        if gone:
            self._mirrors.lost(key)
        else:
            self._mirrors.seen(mirror)
        for worker in self._workers.values():
            if spec.is_static(worker.pod) and meta.key_of(worker.pod) == key:
                if gone or not (mirror.get("status") or {}).get("startTime"):
                    self._kit.statuses.touch(worker.uid)  # a new mirror shows nothing yet
                else:
                    self._kit.statuses.seen(worker.uid, mirror)
                worker.probe_changed()

    def static_changed(self, source: str, found: Mapping[str, Object]) -> None:
        """These are all static pods of a source (file, http) now, by uid."""
        self._static[source] = found
        wanted = {uid: pod for pods in self._static.values() for uid, pod in pods.items()}
        for uid, worker in self._workers.items():
            if spec.is_static(worker.pod) and uid not in wanted:
                worker.remove()
        for uid, pod in wanted.items():
            key = meta.key_of(pod)
            if uid in self._workers:
                if self._workers[uid].is_removed:  # taken away and brought back before it has ended
                    self._waiting[key] = [pod]
                continue
            if any(meta.key_of(w.pod) == key for w in self._workers.values()):
                self._waiting[key] = [pod]
            else:
                self._want(pod, changed=True)
        kept = {meta.key_of(pod) for pod in wanted.values()}
        self._waiting = {key: pods for key, pods in self._waiting.items() if key in kept}
        self.ready(source)

    def _want(self, pod: Object, *, changed: bool) -> None:
        uid = meta.uid_of(pod)
        worker = self._workers.get(uid)
        if worker is None:
            self._begin(pod)
        elif changed:
            worker.update(pod)
        else:
            worker.pod = pod

    def _begin(self, pod: Object) -> None:
        worker = PodWorker(self._kit, self._starter, self._hooks, self._mirrors, pod)
        if not meta.is_deleting(pod) and not _is_done(pod):
            # What runs was taken before the kubelet started again: nobody is thrown out for that.
            runs = self._kit.view.pod(worker.uid).has_live_parts
            verdict = None if runs else self._judge(self._kit.allocations.pod(pod))
            verdict = verdict or self._kit.topology.admit(pod)
            if verdict is not None:
                worker.reject(verdict)
            else:
                self._kit.allocations.admit(pod)
        self._start(worker)

    def _judge(self, pod: Object) -> Verdict | None:
        """Why the node doesn't take a pod; a critical one may displace others."""
        kit, others = self._kit, self.active_pods
        for gate in self.gates:
            verdict = gate(pod)
            if verdict is not None:
                return verdict
        sysctls = kit.settings.allowed_unsafe_sysctls
        verdict = admission.judge(pod, self._node(), others, kit.node.allocatable, sysctls)
        if verdict is not None and verdict.reason.startswith("OutOf") and spec.is_critical(pod):
            lacking = preemption.missing(pod, others, kit.node.allocatable)
            for victim in preemption.victims(pod, others, lacking) or ():
                kit.teller.pod(victim, "Warning", preemption.REASON, preemption.MESSAGE)
                metrics.PREEMPTIONS.labels(next(iter(sorted(lacking)), "")).inc()
                told = conditions.make(
                    conditions.DISRUPTION_TARGET,
                    True,
                    "TerminationByKubelet",
                    "Pod was preempted by Kubelet to accommodate a critical pod.",
                )
                self.end(meta.uid_of(victim), Verdict(preemption.REASON, preemption.MESSAGE, (told,)), None)
            verdict = admission.judge(pod, self._node(), self.active_pods, kit.node.allocatable, sysctls)
        return verdict

    def end(self, uid: str, verdict: Verdict, grace_seconds: float | None) -> bool:
        """End a pod as failed, with this grace (None: its own); whether there is such a pod that runs."""
        worker = self._workers.get(uid)
        if worker is None or worker.is_ending:
            return False
        worker.end(verdict, grace_seconds)
        return True

    def _start(self, worker: PodWorker) -> None:
        self._workers[worker.uid] = worker
        if self._group is not None:
            self._tasks[worker.uid] = self._group.create_task(self._live(worker), name=f"pod {meta.key_of(worker.pod)}")
        self._kit.cgroups.share(self.active_pods)

    # -- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the workers until cancelled; the containers go on."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for worker in list(self._workers.values()):
                self._start(worker)
            group.create_task(self._keep_house())

    async def _live(self, worker: PodWorker) -> None:
        while True:
            try:
                await worker.run()
            except Exception as error:  # the one worker loop: one pod's defect must not end the others
                log.error("pod worker failed", pod=meta.key_of(worker.pod), error=error, trace=True)
                await self._kit.clock.sleep(_FAILED_WORKER_SECONDS)
            else:
                break
        del self._workers[worker.uid]
        del self._tasks[worker.uid]
        self._offer_room()
        self._kit.cgroups.share(self.active_pods)
        for pod in self._waiting.pop(meta.key_of(worker.pod), []):
            self._want(pod, changed=True)

    def _offer_room(self) -> None:
        """Something left: resizes that wait for room may be possible now."""
        for worker in self._workers.values():
            if worker.waits_for_room:
                worker.probe_changed()

    async def _keep_house(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_HOUSEKEEPING_SECONDS):
                    await self._housekeep.wait()
            except TimeoutError:
                pass
            self._housekeep.clear()
            if self._sources or not self._kit.view.is_fresh:
                continue
            for uid, runtime in list(self._kit.view.pods.items()):
                if uid not in self._workers:
                    self._adopt_orphan(runtime)
            await self._remove_leftovers()
            for mirror in self._mirrors.orphans(self.static_keys | set(self._waiting)):
                await self._mirrors.remove_mirror(mirror)

    def _adopt_orphan(self, runtime: RuntimePod) -> None:
        """Nobody wants this pod: end it."""
        metrics.ORPHANS.inc()
        log.info("ending pod that nobody wants", pod=f"{runtime.namespace}/{runtime.name}", uid=runtime.uid)
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": runtime.name,
                "namespace": runtime.namespace,
                "uid": runtime.uid,
                "deletionGracePeriodSeconds": _ORPHAN_GRACE_SECONDS,
            },
            "spec": {"containers": []},
            "status": {},
        }
        worker = PodWorker(self._kit, self._starter, self._hooks, self._mirrors, pod)
        worker.remove()
        self._start(worker)

    async def _remove_leftovers(self) -> None:
        """Directories and control groups of pods that are gone."""
        kit = self._kit
        known = self._workers.keys() | kit.view.pods.keys()
        for uid in kit.volumes.known() - known:
            await kit.volumes.tear_down(uid)
        for uid in kit.cgroups.known() - known:
            kit.cgroups.remove(uid)
        for uid in kit.topology.known() - known:
            kit.topology.forget(uid)
        await asyncio.to_thread(remove_orphan_logs, kit.settings.pod_logs_dir, kit.log_links_dir, known)


def _is_done(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in TERMINAL


def _differs(old: Object, new: Object) -> bool:
    """Whether a worker has to look: our own status coming back is no news."""
    if old["spec"] != new["spec"]:
        return True
    ours, theirs = old["metadata"], new["metadata"]
    fields = ("deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "generation")
    if any(ours.get(name) != theirs.get(name) for name in fields):
        return True
    return _foreign_conditions(old) != _foreign_conditions(new)


def _foreign_conditions(pod: Object) -> list[tuple[str, str]]:
    found = (pod.get("status") or {}).get("conditions") or ()
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    return sorted((c["type"], c.get("status", "")) for c in found if c["type"] in gates)
