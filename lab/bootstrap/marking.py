"""Control planes as Nodes: labelled, and tainted so that other pods stay away.

Source: kubeadm, phases/markcontrolplane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.bootstrap.configuration import TAINT
from machinery.api.catalogue import NODES
from machinery.api.meta import Object, labels_of
from machinery.client.rest import Client
from machinery.errors import Conflict

LABELS = ("node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers")

Taints = Sequence[Mapping[str, str]]


def plan(node: Object, taints: Taints) -> Object | None:
    """The patch that makes the Node one of a control plane; None for one that is so already."""
    present: list[dict[str, Any]] = list((node.get("spec") or {}).get("taints") or ())
    known = {(taint.get("key"), taint.get("effect")) for taint in present}
    missing = [dict(taint) for taint in taints if (taint["key"], taint["effect"]) not in known]
    unlabelled = {label: "" for label in LABELS if label not in labels_of(node)}
    if not missing and not unlabelled:
        return None
    patch: Object = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"], "labels": unlabelled}}
    if missing:
        patch["spec"] = {"taints": [*present, *missing]}
    return patch


async def mark(client: Client, name: str, taints: Taints | None = None) -> bool:
    """Mark the Node of this name; whether that changed it. Raises NotFound when there is none (yet)."""
    while True:
        patch = plan(await client.get(NODES, name), (TAINT,) if taints is None else taints)
        if patch is None:
            return False
        try:
            await client.patch(NODES, name, patch)
        except Conflict:
            continue
        return True
