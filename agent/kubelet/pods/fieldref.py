"""What pods may learn of themselves: fieldRef and resourceFieldRef, in variables and downward API volumes.

Source: downward API; k8s.io/kubernetes fieldpath and resource helpers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.kubelet.pods import spec
from machinery.api import meta, podresources, quantity
from machinery.api.meta import Object
from machinery.api.quantity import Quantity

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)


_DEFAULTED = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of a pod only on its node."""

    node_name: str
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, Quantity] = field(default_factory=dict)


def _quoted(pairs: Mapping[str, str]) -> str:
    # Go's %q of each value: backslashes, quotes and control characters escaped.
    return "\n".join(f"{key}={go_quote(pairs[key])}" for key in sorted(pairs))


def go_quote(text: str) -> str:
    """A text as Go's %q shows it."""
    escapes = {
        "\\": "\\\\",
        '"': '\\"',
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
    out = []
    for char in text:
        if char in escapes:
            out.append(escapes[char])
        elif ord(char) < 0x20 or ord(char) == 0x7F:
            out.append(f"\\x{ord(char):02x}")
        elif not char.isprintable():
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def pod_field(pod: Object, path: str, facts: PodFacts) -> str:
    """The value of a fieldPath. Raises ValueError for a path that is not supported."""
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        return str((pod["metadata"].get(subscript.group(1)) or {}).get(subscript.group(2), ""))
    of_pod = {
        "metadata.name": meta.name_of(pod),
        "metadata.namespace": meta.namespace_of(pod),
        "metadata.uid": meta.uid_of(pod),
        "spec.nodeName": pod["spec"].get("nodeName") or facts.node_name,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName") or "",
        "status.hostIP": facts.host_ips[0] if facts.host_ips else "",
        "status.hostIPs": ",".join(facts.host_ips),
        "status.podIP": facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": ",".join(facts.pod_ips),
    }
    if path in of_pod:
        return of_pod[path]
    if path == "metadata.labels":
        return _quoted(meta.labels_of(pod))
    if path == "metadata.annotations":
        return _quoted(meta.annotations_of(pod))
    raise ValueError(f"unsupported fieldPath: {path}")


def resource_field(pod: Object, container: Object | None, selector: Object, facts: PodFacts) -> str:
    """The value of a resourceFieldRef; a limit that isn't set is the node's allocatable. Raises ValueError."""
    name = selector.get("containerName")
    if name:
        container = spec.find_container(pod, name)
    if container is None:
        raise ValueError(f"container {name} not found")
    section, _, resource = selector["resource"].partition(".")
    if section not in ("limits", "requests"):
        raise ValueError(f"unsupported container resource : {selector['resource']}")
    divisor = quantity.parse(selector.get("divisor") or "0") or quantity.of(1)
    amount = podresources.of_container(container, section).get(resource)
    if not amount and section == "limits" and resource in _DEFAULTED:
        # What limits the container in the end: the pod, or the node.
        amount = podresources.of_container(pod["spec"], section).get(resource) or facts.allocatable.get(resource)
    if not amount:
        return "0"
    return str(-(-amount.nanos // divisor.nanos))
