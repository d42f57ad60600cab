"""Which nodes a DaemonSet's pods belong on, and what makes a pod be bound there. Pure functions.

Source: k8s.io/kubernetes/pkg/controller/daemon/daemon_controller.go, daemon/util; component-helpers nodeaffinity.
"""

from __future__ import annotations

from typing import Any

from controlplane.controllers.nodelifecycle.plan import taints_of, tolerates
from controlplane.controllers.pods import from_template
from controlplane.controllers.revisions import POD_LABEL, revision_label
from machinery.api.catalogue import DAEMONSETS
from machinery.api.labels import Requirement
from machinery.api.meta import Object, annotations_of, labels_of, name_of

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
POD_GENERATION = "pod-template-generation"
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_NO_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


def tolerations_of(owner: Object) -> list[Object]:
    """The template's tolerations and those that every daemon has."""
    spec = owner["spec"]["template"]["spec"]
    made = list(spec.get("tolerations") or ())
    for key, effect in (*_TOLERATED, *([_NO_NETWORK] if spec.get("hostNetwork") else [])):
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in made:
            made.append(toleration)
    return made


def _fits_expressions(expressions: list[Object], values: dict[str, str]) -> bool:
    return all(
        e.get("operator") in _OPERATORS
        and Requirement(e["key"], _OPERATORS[e["operator"]], tuple(e.get("values") or ())).matches(values)
        for e in expressions
    )


def fits_term(term: Object, node: Object) -> bool:
    """Whether a node selector term (not an empty one) selects the node."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return _fits_expressions(expressions, labels_of(node)) and _fits_expressions(
        fields, {"metadata.name": name_of(node)}
    )


def fits_selection(spec: Object, node: Object) -> bool:
    """Whether a pod spec's nodeSelector and required node affinity select the node."""
    labels = labels_of(node)
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity")) or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(fits_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def should_run(owner: Object, node: Object) -> tuple[bool, bool]:
    """(whether a pod should be started on the node, whether one that runs there may stay)."""
    spec = owner["spec"]["template"]["spec"]
    if spec.get("nodeName") and spec["nodeName"] != name_of(node):
        return False, False
    if not fits_selection(spec, node):
        return False, False
    tolerations = tolerations_of(owner)
    hostile = [t for t in taints_of(node) if not any(tolerates(toleration, t) for toleration in tolerations)]
    if any(taint["effect"] == "NoExecute" for taint in hostile):
        return False, False
    return not any(taint["effect"] == "NoSchedule" for taint in hostile), True


def is_updated(pod: Object, owner: Object, digest: str) -> bool:
    """Whether a pod is of the owner's present template, of which `digest` is the hash.

    The template's generation tells it, too: a revision of the same template may have got another hash meanwhile.
    Source: k8s.io/kubernetes/pkg/controller/daemon/util IsPodUpdated.
    """
    generation = annotations_of(owner).get(TEMPLATE_GENERATION)
    return revision_label(pod) == digest or (
        generation is not None and labels_of(pod).get(POD_GENERATION) == generation
    )


def make_pod(owner: Object, node: str, digest: str) -> Object:
    """The pod for a node: free to be scheduled there alone."""
    pod = from_template(owner["spec"]["template"], owner, DAEMONSETS)
    labels = {**labels_of(pod), POD_LABEL: digest}
    if generation := annotations_of(owner).get(TEMPLATE_GENERATION):
        labels[POD_GENERATION] = generation
    pod["metadata"]["labels"] = labels
    spec: dict[str, Any] = {**pod["spec"], "tolerations": tolerations_of(owner)}
    spec["affinity"] = _bound_to(spec.get("affinity") or {}, node)
    return {**pod, "spec": spec}


def _bound_to(affinity: Object, node: str) -> Object:
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    # The template's own terms have been looked at already, and the scheduler must not judge them otherwise later.
    terms = [{"matchFields": [field]}]
    required = {**required, "nodeSelectorTerms": terms}
    return {
        **affinity,
        "nodeAffinity": {**node_affinity, "requiredDuringSchedulingIgnoredDuringExecution": required},
    }


def target_node(pod: Object) -> str:
    """The node that a daemon pod runs on, or is to be bound to; "" if it can't be told."""
    if name := (pod.get("spec") or {}).get("nodeName"):
        return str(name)
    affinity = (((pod.get("spec") or {}).get("affinity")) or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            values = field.get("values") or []
            if field.get("key") == "metadata.name" and field.get("operator") == "In" and len(values) == 1:
                return str(values[0])
    return ""
