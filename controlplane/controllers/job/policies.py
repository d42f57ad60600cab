"""What a pod's failure, and a set of successes, mean by the Job's own rules. Pure functions.

Source: KEP-3329 (podFailurePolicy), KEP-3998 (successPolicy);
k8s.io/kubernetes/pkg/controller/job/{pod_failure_policy,success_policy}.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.controllers.job.indexes import parse_indexes
from machinery.api.meta import Object, name_of, namespace_of

FAIL_JOB, IGNORE, COUNT, FAIL_INDEX = "FailJob", "Ignore", "Count", "FailIndex"


@dataclass(frozen=True)
class FailureVerdict:
    """What a rule says about a failed pod; no action if none matched."""

    action: str = COUNT
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether the failure counts against the limits."""
        return self.action != IGNORE


def judge_failure(job: Object, pod: Object) -> FailureVerdict:
    """The first rule of podFailurePolicy that matches; without one the failure just counts."""
    rules = ((job["spec"].get("podFailurePolicy")) or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        action = rule["action"]
        if action == FAIL_INDEX and job["spec"].get("backoffLimitPerIndex") is None:
            continue
        if rule.get("onExitCodes"):
            container = _matching_container(pod, rule["onExitCodes"])
            if container is not None:
                code = container["state"]["terminated"]["exitCode"]
                message = (
                    f"Container {container['name']} for pod {namespace_of(pod)}/{name_of(pod)} failed with exit code "
                    f"{code} matching {action} rule at index {number}"
                )
                return FailureVerdict(action, message)
        elif rule.get("onPodConditions"):
            found = _matching_condition(pod, rule["onPodConditions"])
            if found is not None:
                message = (
                    f"Pod {namespace_of(pod)}/{name_of(pod)} has condition {found['type']} matching {action} rule at "
                    f"index {number}"
                )
                return FailureVerdict(action, message)
    return FailureVerdict()


def _matching_container(pod: Object, requirement: Object) -> Object | None:
    status = pod.get("status") or {}
    wanted = requirement.get("containerName")
    values = set(requirement.get("values") or ())
    for container in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode") or 0
        if code == 0 or (wanted is not None and container.get("name") != wanted):
            continue
        found: Object = container
        if (requirement["operator"] == "In") == (code in values):
            return found
    return None


def _matching_condition(pod: Object, patterns: list[Object]) -> Object | None:
    for found in (pod.get("status") or {}).get("conditions") or ():
        for pattern in patterns:
            if pattern["type"] == found.get("type") and pattern.get("status", "True") == found.get("status"):
                met: Object = found
                return met
    return None


def judge_success(job: Object, succeeded: set[int]) -> str:
    """The message of the first rule of successPolicy that is met, "" if none is."""
    rules = (job["spec"].get("successPolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        wanted, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if wanted is not None:
            indexes = parse_indexes(wanted, int(job["spec"]["completions"]))
            enough = len(indexes) if count is None else int(count)
            met = len(indexes & succeeded) >= enough
        else:
            met = count is not None and len(succeeded) >= int(count)
        if met:
            return f"Matched rules at index {number}"
    return ""
