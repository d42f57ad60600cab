"""What has to be done to bring a pod where its spec wants it: pure, from spec, runtime state and probe results.

Source: kubelet's kuberuntime computePodActions; KEP-753 (sidecar containers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.kubelet.container.identity import container_hash
from agent.kubelet.container.model import CREATED, EXITED, RUNNING, UNKNOWN, Container, RuntimePod, Sandbox
from agent.kubelet.pods import restart, spec
from machinery.api.meta import Object

STARTUP_PROBE, LIVENESS_PROBE, NO_PROBE, UNKNOWN_STATE = "StartupProbe", "LivenessProbe", "", "Unknown"
RESIZE = "Resize"


@dataclass(frozen=True, slots=True)
class Kill:
    """A container to stop; `cause` is STARTUP_PROBE, LIVENESS_PROBE, UNKNOWN_STATE, RESIZE or NO_PROBE."""

    container: Container
    message: str
    cause: str = NO_PROBE

    def grace_seconds(self, pod: Object) -> float:
        """How long the container has to end: what the probe that failed allows, or the pod."""
        container = spec.find_container(pod, self.container.name) or {}
        field = {LIVENESS_PROBE: "livenessProbe", STARTUP_PROBE: "startupProbe"}.get(self.cause, "")
        own = (container.get(field) or {}).get("terminationGracePeriodSeconds")
        return spec.grace_of(pod) if own is None else float(own)


@dataclass(frozen=True, slots=True)
class Plan:
    """The next steps, in the order in which the fields stand here."""

    kill_pod: bool = False
    reset: tuple[Container, ...] = ()  # stop all containers and forget them, these last: all begin again
    kills: tuple[Kill, ...] = ()
    create_sandbox: bool = False
    attempt: int = 0
    sandbox_changed: bool = False  # there was a sandbox before
    ephemeral: tuple[Object, ...] = ()
    init: tuple[Object, ...] = ()
    start: tuple[Object, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        steps = (self.kill_pod, self.reset, self.kills, self.create_sandbox, self.ephemeral, self.init, self.start)
        return not any(steps)


@dataclass(frozen=True, slots=True)
class ProbeVerdicts:
    """What probes say of a container id: True passed, False failed, None nothing yet (or no such probe)."""

    startup: Callable[[str], bool | None] = lambda _: None
    liveness: Callable[[str], bool | None] = lambda _: None
    restarts: Mapping[str, Kill] = field(default_factory=dict)  # containers that a resize restarts, by id


@dataclass(slots=True)
class _Draft:
    kill_pod: bool = False
    kills: list[Kill] = field(default_factory=list)
    init: list[Object] = field(default_factory=list)
    start: list[Object] = field(default_factory=list)


def sandbox_change(pod: Object, runtime: RuntimePod) -> tuple[bool, int]:
    """(whether a new sandbox is needed, its attempt)."""
    sandbox = runtime.sandbox
    if sandbox is None:
        return True, 0
    if sum(s.ready for s in runtime.sandboxes) > 1 or not sandbox.ready or _wrong_network(pod, sandbox):
        return True, sandbox.attempt + 1
    return False, sandbox.attempt


def _wrong_network(pod: Object, sandbox: Sandbox) -> bool:
    if sandbox.host_network != spec.is_host_network(pod):
        return True
    return not sandbox.host_network and not sandbox.ips


def plan_pod(pod: Object, runtime: RuntimePod, probes: ProbeVerdicts) -> Plan:
    """The next steps for a pod that is to run."""
    needed, attempt = sandbox_change(pod, runtime)
    reset = restart.asks_for_all(pod, runtime)
    if reset:
        return Plan(reset=tuple(reset), attempt=attempt)
    if needed:
        return _plan_new_sandbox(pod, runtime, attempt)
    # Ephemeral containers never run twice, and don't wait for the others.
    ephemeral = tuple(c for c in spec.ephemeral_containers(pod) if runtime.container(c["name"]) is None)
    draft = _Draft()
    initialized = _plan_init(pod, runtime, probes, draft)
    if initialized and not draft.kill_pod:
        _plan_apps(pod, runtime, probes, draft)
    return Plan(
        kill_pod=draft.kill_pod,
        kills=tuple(draft.kills),
        attempt=attempt,
        ephemeral=ephemeral,
        init=tuple(draft.init),
        start=tuple(draft.start),
    )


def _plan_new_sandbox(pod: Object, runtime: RuntimePod, attempt: int) -> Plan:
    changed = runtime.sandbox is not None
    nothing_more = Plan(kill_pod=True, attempt=attempt, sandbox_changed=changed)
    if not restart.may_restart_on_failure(pod) and attempt != 0 and runtime.containers:
        return nothing_more
    start = tuple(c for c in spec.containers(pod) if not _is_done(pod, c, runtime))
    if not start and any(runtime.container(c["name"]) for c in spec.containers(pod)):
        return nothing_more
    init = tuple(spec.init_containers(pod)[:1])
    return Plan(
        kill_pod=changed,
        create_sandbox=True,
        attempt=attempt,
        sandbox_changed=changed,
        init=init,
        start=() if init else start,
    )


def _is_done(pod: Object, container: Object, runtime: RuntimePod) -> bool:
    status = runtime.container(container["name"])
    if status is None or status.state != EXITED:
        return False
    policy = restart.policy_of(pod, container)
    if policy == "OnFailure":
        return status.exit_code == 0 and not restart.rule_matches(container, 0)
    return policy == "Never" and not restart.rule_matches(container, status.exit_code)


def _plan_init(pod: Object, runtime: RuntimePod, probes: ProbeVerdicts, draft: _Draft) -> bool:
    """Plan init containers and sidecars; whether the app containers' turn has come.

    Goes from the last to the first: the last one that has run tells how far initialization got, for the records of
    earlier ones may have been removed.
    """
    init = spec.init_containers(pod)
    if not init:
        return True
    initialized = _has_begun(pod, runtime.active)
    # Whether the container looked at has been initialized before, so that the one after it could start.
    passed = initialized
    start: list[Object] = []
    for index in range(len(init) - 1, -1, -1):
        container = init[index]
        sidecar = spec.is_sidecar(container)
        status = runtime.active.container(container["name"])
        if status is None:
            if passed and sidecar:
                start.append(container)
            continue
        if passed and not sidecar:
            continue
        done = _plan_one_init(pod, container, status, probes, draft, start)
        if draft.kill_pod:
            return False
        if done and not passed:
            if index == len(init) - 1:
                initialized = True
            else:
                start.append(init[index + 1])
        passed = True
    if not passed:
        start.append(init[0])
    order = {c["name"]: position for position, c in enumerate(init)}
    unique = {c["name"]: c for c in start}
    draft.init = sorted(unique.values(), key=lambda c: order[c["name"]])
    return initialized


def _has_begun(pod: Object, active: RuntimePod) -> bool:
    """Whether the app containers had their turn, in this sandbox.

    Where all of them have ended, they wait again for sidecars that have ended too.
    """
    seen = [active.container(container["name"]) for container in spec.containers(pod)]
    states = {status.state for status in seen if status is not None}
    if any(spec.is_sidecar(container) for container in spec.init_containers(pod)):
        return bool(states & {CREATED, RUNNING})
    return bool(states)


def _plan_one_init(
    pod: Object, container: Object, status: Container, probes: ProbeVerdicts, draft: _Draft, start: list[Object]
) -> bool:
    """Plan one init container that has run; whether it lets the next one start."""
    if status.state == CREATED:
        # Creating and starting are one step here: what is only created failed to start.
        start.append(container)
        return False
    if status.state == RUNNING:
        return spec.is_sidecar(container) and _sidecar_started(container, status, probes, draft, start)
    if status.state == EXITED:
        if spec.is_sidecar(container):
            start.append(container)
            return False
        if status.exit_code == 0:
            return True
        if restart.restarts_after(pod, _as_init(pod, container), status.exit_code):
            start.append(container)
        else:
            draft.kill_pod = True
        return False
    if not spec.is_sidecar(container) and _as_init(pod, container)["restartPolicy"] == "Never":
        draft.kill_pod = True  # how it ended can't be known, so no rule can ask for another try
        return False
    message = f'Init container is in "{UNKNOWN}" state, try killing it before restart'
    draft.kills.append(Kill(status, message, UNKNOWN_STATE))
    start.append(container)
    return False


def _as_init(pod: Object, container: Object) -> Object:
    # For init containers Always means OnFailure: they are to end.
    if container.get("restartPolicy"):
        return container
    policy = "Never" if spec.restart_policy(pod) == "Never" else "OnFailure"
    return {**container, "restartPolicy": policy}


def _sidecar_started(
    container: Object, status: Container, probes: ProbeVerdicts, draft: _Draft, start: list[Object]
) -> bool:
    """Whether the startup probe lets the next one start; what else is wrong does not hold that up."""
    name = container["name"]
    if container.get("startupProbe"):
        verdict = probes.startup(status.id)
        if verdict is False:
            draft.kills.append(Kill(status, f"Init container {name} failed startup probe", STARTUP_PROBE))
            start.append(container)
        if verdict is not True:
            return False
    kill: Kill | None = None
    if status.hash and status.hash != container_hash(container):
        kill = Kill(status, f"Init container {name} definition changed")
    elif probes.liveness(status.id) is False:
        kill = Kill(status, f"Init container {name} failed liveness probe", LIVENESS_PROBE)
    elif status.id in probes.restarts:
        kill = probes.restarts[status.id]
    if kill is not None:
        draft.kills.append(kill)
        start.append(container)
    return True


def _plan_apps(pod: Object, runtime: RuntimePod, probes: ProbeVerdicts, draft: _Draft) -> None:
    kept = 0
    for container in spec.containers(pod):
        name = container["name"]
        status = runtime.container(name)
        if status is None or status.state != RUNNING:
            if restart.should_start(pod, container, runtime):
                draft.start.append(container)
                if status is not None and status.state == UNKNOWN:
                    message = f'Container is in "{UNKNOWN}" state, try killing it before restart'
                    draft.kills.append(Kill(status, message, UNKNOWN_STATE))
            continue
        again = restart.policy_of(pod, container) != "Never"  # rules are for what has ended
        if status.hash and status.hash != container_hash(container):
            message, cause, again = f"Container {name} definition changed", NO_PROBE, True
        elif probes.liveness(status.id) is False:
            message, cause = f"Container {name} failed liveness probe", LIVENESS_PROBE
        elif probes.startup(status.id) is False:
            message, cause = f"Container {name} failed startup probe", STARTUP_PROBE
        elif status.id in probes.restarts:
            draft.kills.append(probes.restarts[status.id])
            draft.start.append(container)
            continue
        else:
            kept += 1
            continue
        if again:
            message += ", will be restarted"
            draft.start.append(container)
        draft.kills.append(Kill(status, message, cause))
    if not kept and not draft.start:
        draft.kill_pod = True
        draft.init = []
