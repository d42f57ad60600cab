"""Changes of pods that are bound to a node, for plugins that ask what their node can follow."""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import refuse, subject
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import NODES
from machinery.api.fielderror import show
from machinery.api.meta import Object


def node_of_change(operation: Operation) -> str:
    """The name of the node that must follow an update of a pod; "" if it is bound to none, or its spec stays."""
    pod, old = subject(operation), operation.old or {}
    unchanged = pod["metadata"].get("generation") == (old.get("metadata") or {}).get("generation")
    return "" if unchanged else (pod.get("spec") or {}).get("nodeName") or ""


def node_named(reader: Reader, operation: Operation, name: str) -> Object:
    """The node. Raises Forbidden when there is none."""
    node = reader.get(NODES, "", name)
    if node is None:
        raise refuse(operation, f"node {show(name)} not found")
    return node
