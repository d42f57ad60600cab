"""What makes a pod of a StatefulSet the one it is: ordinal, name, claims. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/statefulset/stateful_set_utils.go.
"""

from __future__ import annotations

import re
from typing import Any

from controlplane.controllers.pods import from_template
from controlplane.controllers.revisions import POD_LABEL, template_of
from machinery.api.catalogue import STATEFULSETS
from machinery.api.meta import Object, labels_of, name_of, namespace_of, owner_reference, uid_of

NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_NAME = re.compile("(.*)-([0-9]+)")


def ordinal_of(pod: Object) -> int:
    """The number at the end of the pod's name, -1 if there is none."""
    found = _NAME.fullmatch(name_of(pod))
    return int(found[2]) if found else -1


def is_member(owner: Object, pod: Object) -> bool:
    """Whether the pod's name is one that this StatefulSet gives."""
    found = _NAME.fullmatch(name_of(pod))
    return found is not None and found[1] == name_of(owner)


def start_ordinal(owner: Object) -> int:
    """The first ordinal."""
    return int((owner["spec"].get("ordinals") or {}).get("start") or 0)


def replicas_of(owner: Object) -> int:
    """spec.replicas."""
    replicas = owner["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def in_range(owner: Object, ordinal: int) -> bool:
    """Whether the StatefulSet wants a pod of this ordinal."""
    start = start_ordinal(owner)
    return start <= ordinal < start + replicas_of(owner)


def claim_name(owner: Object, template: Object, ordinal: int) -> str:
    """The claim of one template for one pod."""
    return f"{name_of(template)}-{name_of(owner)}-{ordinal}"


def claims_of(owner: Object, ordinal: int) -> list[Object]:
    """The claims that the pod of this ordinal has."""
    made = []
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        described = template.get("metadata") or {}
        metadata: Object = {
            "name": claim_name(owner, template, ordinal),
            "namespace": namespace_of(owner),
            "labels": {
                **(described.get("labels") or {}),
                **((owner["spec"].get("selector") or {}).get("matchLabels") or {}),
            },
        }
        if described.get("annotations"):
            metadata["annotations"] = dict(described["annotations"])
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": template.get("spec") or {},
            }
        )
    return made


def make_pod(owner: Object, revision: Object, ordinal: int) -> Object:
    """The pod of an ordinal, of the template that the revision keeps."""
    name = f"{name_of(owner)}-{ordinal}"
    pod = from_template(template_of(revision), owner, STATEFULSETS, name=name)
    pod["metadata"]["namespace"] = namespace_of(owner)
    spec: dict[str, Any] = {**pod["spec"], "hostname": name}
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    pod = with_storage(owner, with_labels({**pod, "spec": spec}, ordinal), ordinal)
    pod["metadata"]["labels"][POD_LABEL] = name_of(revision)
    return pod


def with_labels(pod: Object, ordinal: int) -> Object:
    """The pod with the labels that tell its name and number."""
    labels = {**labels_of(pod), NAME_LABEL: name_of(pod), INDEX_LABEL: str(ordinal)}
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}}


def with_storage(owner: Object, pod: Object, ordinal: int) -> Object:
    """The pod with a volume for each claim, in place of any of the same name."""
    templates = owner["spec"].get("volumeClaimTemplates") or ()
    if not templates:
        return pod
    own = [
        {"name": name_of(t), "persistentVolumeClaim": {"claimName": claim_name(owner, t, ordinal)}} for t in templates
    ]
    names = {volume["name"] for volume in own}
    others = [v for v in pod["spec"].get("volumes") or () if v.get("name") not in names]
    return {**pod, "spec": {**pod["spec"], "volumes": [*own, *others]}}


def identity_matches(owner: Object, pod: Object) -> bool:
    """Whether a pod that exists carries its labels."""
    labels = labels_of(pod)
    return (
        is_member(owner, pod)
        and labels.get(NAME_LABEL) == name_of(pod)
        and labels.get(INDEX_LABEL) == str(ordinal_of(pod))
    )


# -- what becomes of claims when pods or the set go ----------------------------------------------------------------


def retention(owner: Object) -> tuple[str, str]:
    """(when deleted, when scaled): Retain or Delete."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") or "Retain", policy.get("whenScaled") or "Retain"


def claim_owners(owner: Object, pod: Object, claim: Object) -> list[Object]:
    """The ownerReferences that the claim of a pod must have, so that the garbage collector takes it when it should."""
    when_deleted, when_scaled = retention(owner)
    condemned = not in_range(owner, ordinal_of(pod))
    by_set = when_deleted == "Delete" and not (when_scaled == "Delete" and condemned)
    by_pod = when_scaled == "Delete" and condemned
    present = claim["metadata"].get("ownerReferences") or []
    wanted = [r for r in present if r.get("uid") not in (uid_of(owner), uid_of(pod))]
    if by_set:
        wanted.append(_standing(present, uid_of(owner)) or owner_reference(owner, STATEFULSETS))
    if by_pod:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": uid_of(pod)}
        wanted.append(_standing(present, uid_of(pod)) or reference)
    return present if {r["uid"] for r in wanted} == {r["uid"] for r in present} else wanted


def _standing(references: list[Object], uid: str) -> Object | None:
    return next((r for r in references if r.get("uid") == uid), None)


def is_stale_claim(pod: Object, claim: Object) -> bool:
    """Whether the claim belongs to an earlier pod of the same name, and so is about to go."""
    return any(
        r.get("kind") == "Pod" and r.get("name") == name_of(pod) and r.get("uid") != uid_of(pod)
        for r in claim["metadata"].get("ownerReferences") or ()
    )
