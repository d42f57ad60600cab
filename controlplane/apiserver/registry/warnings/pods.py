"""Warnings about pods and the templates that make them.

Source: pkg/api/pod/warnings.go, pkg/api/node/util.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import integer, items, strings, sub, text
from controlplane.apiserver.registry.pod_apparmor import ANNOTATION_PREFIX
from controlplane.apiserver.registry.validation.resources import parse
from controlplane.apiserver.registry.warnings.overlaps import overlapping_paths, ports
from machinery.api import names
from machinery.api.fielderror import show
from machinery.api.meta import Object, name_of

_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_APP_ARMOR = 'deprecated since v1.30; use the "appArmorProfile" field instead'
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_VOLUME_FIELDS = {"storageos": "storageOS"}
_NULL_SELECTOR = "a null labelSelector results in matching no pod"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def label_warning(key: str) -> str:
    """What to use in place of a label of nodes; "" if it is not deprecated."""
    return _LABELS.get(key, "")


def pod(new: Object, old: Object | None) -> list[str]:
    """A new pod; about changes nobody is told, since people seldom make them."""
    if old is not None:
        return []
    found = _spec("", new)
    if wrong := names.dns1123_label(name_of(new)):
        found.insert(
            0,
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            f"a DNS label is recommended: [{' '.join(wrong)}]",
        )
    return found


def template(at: str, new: Object, old: Object | None) -> list[str]:
    """A pod template at this field, if it is new or changed."""
    return [] if old is not None and new == old else _spec(f"{at}.", new)


def named(obj: Object) -> list[str]:
    """The name of what names pods."""
    if wrong := names.dns1123_label(name_of(obj)):
        return [
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
            f"a DNS label is recommended: [{' '.join(wrong)}]"
        ]
    return []


def _spec(at: str, holder: Object) -> list[str]:
    spec, annotations = sub(holder, "spec"), strings(holder, "metadata", "annotations")
    where, noted = f"{at}spec", f"{at}metadata.annotations"
    found = [
        f"{where}.nodeSelector[{key}]: {_LABELS[key]}"
        for key in sorted(strings(spec, "nodeSelector"))
        if key in _LABELS
    ]
    found += _node_affinity(f"{where}.affinity.nodeAffinity", sub(spec, "affinity", "nodeAffinity"))
    for index, constraint in enumerate(items(spec, "topologySpreadConstraints")):
        here, key = f"{where}.topologySpreadConstraints[{index}]", text(constraint, "topologyKey")
        if message := label_warning(key):
            found.append(f"{here}.topologyKey: {key} is {message}")
        if constraint.get("labelSelector") is None:
            found.append(f"{here}.labelSelector: {_NULL_SELECTOR}")
    found += [f"{noted}[{key}]: {message}" for key, message in _ANNOTATIONS.items() if key in annotations]
    for index, volume in enumerate(items(spec, "volumes")):
        here = f"{where}.volumes[{index}]"
        found += [
            f"{here}.{_VOLUME_FIELDS.get(kind, kind)}: {message}"
            for kind, message in VOLUMES.items()
            if isinstance(volume.get(kind), dict)
        ]
        claim = sub(volume, "ephemeral", "volumeClaimTemplate", "spec")
        found += fractional(f"{here}.ephemeral.volumeClaimTemplate.spec.resources", sub(claim, "resources"))
    found += overlapping_paths(items(spec, "volumes")) + _repeated(where, spec)
    found += _fraction(f"{where}.overhead", sub(spec, "overhead"))
    if not sub(spec, "securityContext", "seccompProfile") and _SECCOMP_POD in annotations:
        found.append(f"{noted}[{_SECCOMP_POD}]: {_SECCOMP}")
    listed = _listed(where, spec)
    for here, container in listed:
        found += _profiles(at, noted, annotations, sub(spec, "securityContext"), container)
        found += fractional(f"{here}.resources", sub(container, "resources")) + _hidden(here, container)
    found += ports(listed)
    if (integer(spec, "terminationGracePeriodSeconds") or 0) < 0:
        found.append(
            f"{where}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    return found + _pod_affinity(f"{where}.affinity", sub(spec, "affinity"))


def _profiles(at: str, noted: str, annotations: dict[str, str], of_pod: Object, container: Object) -> list[str]:
    """Annotations about profiles of a container whose fields don't say the same; `at` is "" in a pod itself."""
    context = sub(container, "securityContext")
    found: list[str] = []
    key = _SECCOMP_CONTAINER + text(container, "name")
    if key in annotations and not sub(context, "seccompProfile"):
        found.append(f"{noted}[{key}]: {_SECCOMP}")
    key = ANNOTATION_PREFIX + text(container, "name")
    if at and key in annotations and not (sub(context, "appArmorProfile") or sub(of_pod, "appArmorProfile")):
        found.append(f"{noted}[{key}]: {_APP_ARMOR}")
    return found


def _listed(where: str, spec: Object) -> list[tuple[str, Object]]:
    return [
        (f"{where}.{kind}[{index}]", container)
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for index, container in enumerate(items(spec, kind))
    ]


def _hidden(at: str, container: Object) -> list[str]:
    """Variables that are given once more."""
    found: list[str] = []
    seen: set[str] = set()
    for index, variable in enumerate(items(container, "env")):
        name, value = text(variable, "name"), text(variable, "value")
        own = f"$({name})"
        if name in seen and (variable.get("valueFrom") is not None or value == own or own not in value):
            detail = f"hides previous definition of {show(name)}, which may be dropped when using apply"
            found.append(f"{at}.env[{index}]: {detail}")
        seen.add(name)
    return found


def _node_affinity(at: str, affinity: Object) -> list[str]:
    terms = [
        (f"{at}.{_REQUIRED}.nodeSelectorTerms[{i}]", term)
        for i, term in enumerate(items(affinity, _REQUIRED, "nodeSelectorTerms"))
    ]
    terms += [
        (f"{at}.{_PREFERRED}[{i}].preference", sub(term, "preference"))
        for i, term in enumerate(items(affinity, _PREFERRED))
    ]
    return [w for where, term in terms for w in node_term(where, term)]


def node_term(at: str, term: Object) -> list[str]:
    """Deprecated labels in a term of a node selector."""
    return [
        f"{at}.matchExpressions[{i}].key: {text(e, 'key')} is {_LABELS[text(e, 'key')]}"
        for i, e in enumerate(items(term, "matchExpressions"))
        if text(e, "key") in _LABELS
    ]


def _pod_affinity(at: str, affinity: Object) -> list[str]:
    found: list[str] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = [(f"{at}.{kind}.{_REQUIRED}[{i}]", term) for i, term in enumerate(items(affinity, kind, _REQUIRED))]
        terms += [
            (f"{at}.{kind}.{_PREFERRED}[{i}].podAffinityTerm", sub(term, "podAffinityTerm"))
            for i, term in enumerate(items(affinity, kind, _PREFERRED))
        ]
        found += [f"{where}.labelSelector: {_NULL_SELECTOR}" for where, t in terms if t.get("labelSelector") is None]
    return found


def _repeated(where: str, spec: Object) -> list[str]:
    found: list[str] = []
    addresses = [text(alias, "ip") for alias in items(spec, "hostAliases")]
    for index, address in enumerate(addresses):
        if address in addresses[:index]:
            found.append(f"{where}.hostAliases[{index}].ip: duplicate ip {show(address)}")
    named = [text(secret, "name") for secret in items(spec, "imagePullSecrets")]
    for index, name in enumerate(named):
        if name in named[:index]:
            found.append(f"{where}.imagePullSecrets[{index}].name: duplicate name {show(name)}")
    return found + [
        f"{where}.imagePullSecrets[{index}].name: invalid empty name {show(name)}"
        for index, name in enumerate(named)
        if not name
    ]


def fractional(at: str, resources: Object) -> list[str]:
    """Amounts of bytes that are no whole numbers."""
    return _fraction(f"{at}.limits", sub(resources, "limits")) + _fraction(f"{at}.requests", sub(resources, "requests"))


def _fraction(at: str, amounts: Object) -> list[str]:
    found: list[str] = []
    for name in ("memory", "ephemeral-storage", "storage"):
        amount = parse(amounts.get(name)) if name in amounts else None
        if amount is not None and not amount.is_integer():
            found.append(f"{at}[{name}]: fractional byte value {show(str(amount))} is invalid, must be an integer")
    return found
