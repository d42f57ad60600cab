"""The ReplicaSets of a Deployment: which is the new one, what they carry, how many replicas each may have.

Pure functions.  `Fleet` is the new ReplicaSet and the old ones; a change to a ReplicaSet gives a new dict.

Source: k8s.io/kubernetes/pkg/controller/deployment/util/deployment_util.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controlplane.controllers.hashing import content_hash, normalised
from machinery.api.catalogue import DEPLOYMENTS
from machinery.api.intstr import scaled
from machinery.api.meta import Object, annotations_of, is_deleting, name_of, namespace_of, owner_reference

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)
_HISTORY_CHARACTERS = 2000
_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Fleet:
    """A Deployment's ReplicaSets: the one of its present template, if there is one, and all others."""

    new: Object | None
    old: tuple[Object, ...]

    @property
    def all(self) -> list[Object]:
        """Old ones, then the new one."""
        return [*self.old, self.new] if self.new is not None else list(self.old)

    def replaced(self, changed: Object) -> Fleet:
        """The fleet with one ReplicaSet in a new state."""
        name = name_of(changed)
        new = changed if self.new is not None and name_of(self.new) == name else self.new
        return Fleet(new, tuple(changed if name_of(rs) == name else rs for rs in self.old))


def replicas_of(obj: Object) -> int:
    """spec.replicas (1 where it is not set, as the API defaults it)."""
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def status_count(obj: Object, name: str) -> int:
    """A number of the status, 0 where it is not set."""
    return int((obj.get("status") or {}).get(name) or 0)


def total_replicas(sets: Iterable[Object]) -> int:
    """Replicas asked for, of all."""
    return sum(replicas_of(rs) for rs in sets)


def total_status(sets: Iterable[Object], name: str) -> int:
    """A number of the status, of all."""
    return sum(status_count(rs, name) for rs in sets)


def active(sets: Iterable[Object]) -> list[Object]:
    """Those that ask for at least one replica."""
    return [rs for rs in sets if replicas_of(rs) > 0]


def age_key(rs: Object) -> tuple[str, str]:
    """Sorts oldest first."""
    return str(rs["metadata"].get("creationTimestamp") or ""), name_of(rs)


def _bare_template(template: Object) -> Any:
    """A template as it is compared: without the hash label."""
    metadata = template.get("metadata") or {}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH_LABEL}
    return normalised({**template, "metadata": {**metadata, "labels": labels}})


def same_template(a: Object, b: Object) -> bool:
    """Whether pods of both templates would be alike."""
    return bool(_bare_template(a) == _bare_template(b))


def sort_out(deployment: Object, sets: Iterable[Object]) -> Fleet:
    """Tell the new ReplicaSet (the oldest whose template is the Deployment's) from the old ones, oldest first."""
    ordered = sorted(sets, key=age_key)
    wanted = _bare_template(deployment["spec"]["template"])
    new = next((rs for rs in ordered if _bare_template(rs["spec"]["template"]) == wanted), None)
    return Fleet(new, tuple(rs for rs in ordered if rs is not new))


# -- how many pods, at most and at least ---------------------------------------------------------------------------


def is_rolling(deployment: Object) -> bool:
    """Whether the strategy is RollingUpdate."""
    return str((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate")) == "RollingUpdate"


def fenceposts(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) as numbers; never both 0, or nothing could move."""
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    desired = replicas_of(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), desired, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), desired, round_up=False)
    return (surge, 1) if surge == 0 and unavailable == 0 else (surge, unavailable)


def max_surge(deployment: Object) -> int:
    """Pods allowed above the desired number."""
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    """Pods that may be missing from the desired number."""
    desired = replicas_of(deployment)
    if not is_rolling(deployment) or desired == 0:
        return 0
    return min(fenceposts(deployment)[1], desired)


def new_set_replicas(deployment: Object, fleet: Fleet) -> int:
    """What the new ReplicaSet may be scaled up to now."""
    desired = replicas_of(deployment)
    if not is_rolling(deployment):
        return desired
    current = total_replicas(fleet.all)
    own = replicas_of(fleet.new) if fleet.new is not None else 0
    ceiling = desired + max_surge(deployment)
    if current >= ceiling:
        return own
    return own + min(ceiling - current, desired - own)


def keeps_history(deployment: Object) -> bool:
    """Whether old ReplicaSets are to be cleaned up at all."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    return limit is not None and limit != _NO_LIMIT


def has_deadline(deployment: Object) -> bool:
    """Whether lack of progress is to be reported."""
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and deadline != _NO_LIMIT


# -- annotations ---------------------------------------------------------------------------------------------------


def _number(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def revision_of(obj: Object) -> int:
    """The revision annotation, 0 if it is missing or no number."""
    return _number(annotations_of(obj).get(REVISION))


def next_revision(old: Iterable[Object]) -> int:
    """The revision that the new ReplicaSet must have at least."""
    return max((revision_of(rs) for rs in old), default=0) + 1


def desired_annotation(rs: Object) -> int | None:
    """What the Deployment's replicas were when this ReplicaSet was last scaled."""
    text = annotations_of(rs).get(DESIRED_REPLICAS)
    return int(text) if text is not None and text.isdigit() else None


def _size_annotations(deployment: Object) -> dict[str, str]:
    desired = replicas_of(deployment)
    return {DESIRED_REPLICAS: str(desired), MAX_REPLICAS: str(desired + max_surge(deployment))}


def _annotated(rs: Object, annotations: dict[str, str]) -> Object:
    return {**rs, "metadata": {**rs["metadata"], "annotations": annotations}}


def described(deployment: Object, rs: Object, revision: int) -> Object:
    """The new ReplicaSet with the Deployment's annotations, and its revision moved up to `revision` if it was lower."""
    annotations = dict(annotations_of(rs))
    annotations |= {k: v for k, v in annotations_of(deployment).items() if k not in _NOT_COPIED}
    before = annotations.get(REVISION)
    if _number(before) < revision:
        annotations[REVISION] = str(revision)
        if before is not None:
            history = [part for part in annotations.get(REVISION_HISTORY, "").split(",") if part]
            history.append(before)
            while len(history) > 1 and len(",".join(history)) > _HISTORY_CHARACTERS:
                history.pop(0)
            annotations[REVISION_HISTORY] = ",".join(history)
    return rs if annotations == annotations_of(rs) else _annotated(rs, annotations)


def sized(deployment: Object, rs: Object, replicas: int) -> Object:
    """The ReplicaSet scaled to `replicas`, with the annotations that tell for which size of the Deployment."""
    annotations = {**annotations_of(rs), **_size_annotations(deployment)}
    if replicas_of(rs) == replicas and annotations == annotations_of(rs):
        return rs
    return _annotated({**rs, "spec": {**rs["spec"], "replicas": replicas}}, annotations)


def new_set(deployment: Object, fleet: Fleet) -> Object:
    """The ReplicaSet to create for the Deployment's present template."""
    spec = deployment["spec"]
    template = spec["template"]
    described_template = template.get("metadata") or {}
    digest = content_hash(template, (deployment.get("status") or {}).get("collisionCount"))
    labels = {**(described_template.get("labels") or {}), HASH_LABEL: digest}
    selector = spec["selector"]
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name_of(deployment)}-{digest}",
            "namespace": namespace_of(deployment),
            "labels": labels,
            "ownerReferences": [owner_reference(deployment, DEPLOYMENTS)],
            "annotations": {},
        },
        "spec": {
            "replicas": 0,
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}},
            "template": {**template, "metadata": {**described_template, "labels": labels}},
        },
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    made = described(deployment, made, next_revision(fleet.old))
    return sized(deployment, made, new_set_replicas(deployment, fleet))


def retired(deployment: Object, old: Iterable[Object]) -> list[Object]:
    """Old ReplicaSets beyond the history limit that nothing runs in any more, oldest revision first."""
    if not keeps_history(deployment):
        return []
    cleanable = sorted((rs for rs in old if not is_deleting(rs)), key=lambda rs: (revision_of(rs), age_key(rs)))
    surplus = len(cleanable) - int(deployment["spec"]["revisionHistoryLimit"])
    return [
        rs
        for rs in cleanable[: max(0, surplus)]
        if status_count(rs, "replicas") == 0
        and replicas_of(rs) == 0
        and int(rs["metadata"].get("generation") or 0) <= status_count(rs, "observedGeneration")
    ]
