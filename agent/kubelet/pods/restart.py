"""Whether a container that ended is to be started again.

Source: pod API restartPolicy; KEP-753 (sidecars), KEP-5307 (container restart policy and rules), KEP-5532 (all of
them).
"""

from __future__ import annotations

from agent.kubelet.container.model import CREATED, EXITED, RUNNING, UNKNOWN, Container, RuntimePod
from agent.kubelet.pods import spec
from machinery.api import meta
from machinery.api.meta import Object


def policy_of(pod: Object, container: Object) -> str:
    """The container's own restartPolicy, else the pod's."""
    return str(container.get("restartPolicy") or spec.restart_policy(pod))


RESTART, RESTART_ALL = "Restart", "RestartAllContainers"


def rule_action(container: Object, exit_code: int) -> str:
    """What the first of restartPolicyRules that matches this exit code asks for; empty if none does."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or ())
        if listed == (codes.get("operator") == "In"):
            return str(rule.get("action") or "")
    return ""


def rule_matches(container: Object, exit_code: int) -> bool:
    """Whether restartPolicyRules ask for a restart, of the container or of all, after this exit code."""
    return rule_action(container, exit_code) in (RESTART, RESTART_ALL)


def asks_for_all(pod: Object, runtime: RuntimePod) -> list[Container]:
    """The containers whose end has to make all containers of the pod start again (KEP-5532)."""
    found = []
    for container in [*spec.init_containers(pod), *spec.containers(pod)]:
        status = runtime.container(container["name"]) if container.get("restartPolicyRules") else None
        if status is not None and status.state == EXITED and rule_action(container, status.exit_code) == RESTART_ALL:
            found.append(status)
    return found


def restarts_after(pod: Object, container: Object, exit_code: int) -> bool:
    """Whether the container is to run again after ending with this code."""
    if rule_matches(container, exit_code):
        return True
    policy = policy_of(pod, container)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def should_start(pod: Object, container: Object, runtime: RuntimePod) -> bool:
    """Whether an app container that isn't running has to be started."""
    if meta.is_deleting(pod):
        return False
    status = runtime.container(container["name"])
    if status is None:
        return True
    if status.state == RUNNING:
        return False
    if status.state in (UNKNOWN, CREATED):
        return True
    return restarts_after(pod, container, status.exit_code)


def may_restart_on_failure(pod: Object) -> bool:
    """Whether anything in the pod may run again after a failure."""
    return spec.restart_policy(pod) != "Never" or any(
        c.get("restartPolicy") not in (None, "Never") or c.get("restartPolicyRules") for c in spec.containers(pod)
    )
