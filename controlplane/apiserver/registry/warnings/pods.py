"""Warnings about pods and the templates that make them.

Source: pkg/api/pod/warnings.go, pkg/api/node/util.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import integer, items, number, strings, sub, text
from controlplane.apiserver.registry.validation.resources import parse
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
_ANNOTATIONS = {
    "seccomp.security.alpha.kubernetes.io/pod": _SECCOMP,
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_SECCOMP_PREFIX = "container.seccomp.security.alpha.kubernetes.io/"
_APP_ARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"
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
    spec = sub(holder, "spec")
    where = f"{at}spec"
    found = [
        f"{where}.nodeSelector[{key}]: {_LABELS[key]}"
        for key in sorted(strings(spec, "nodeSelector"))
        if key in _LABELS
    ]
    found += _node_affinity(f"{where}.affinity.nodeAffinity", sub(spec, "affinity", "nodeAffinity"))
    for index, constraint in enumerate(items(spec, "topologySpreadConstraints")):
        here = f"{where}.topologySpreadConstraints[{index}]"
        if message := label_warning(text(constraint, "topologyKey")):
            found.append(f"{here}.topologyKey: {message}")
        if constraint.get("labelSelector") is None:
            found.append(f"{here}.labelSelector: {_NULL_SELECTOR}")
    found += _annotations(f"{at}metadata.annotations", holder, spec)
    for index, volume in enumerate(items(spec, "volumes")):
        here = f"{where}.volumes[{index}]"
        found += [
            f"{here}.{kind}: {message}" for kind, message in VOLUMES.items() if isinstance(volume.get(kind), dict)
        ]
        claim = sub(volume, "ephemeral", "volumeClaimTemplate", "spec")
        found += fractional(f"{here}.ephemeral.volumeClaimTemplate.spec.resources", sub(claim, "resources"))
    found += _repeated(where, spec)
    found += _fraction(f"{where}.overhead", sub(spec, "overhead"))
    found += _containers(where, spec)
    if (integer(spec, "terminationGracePeriodSeconds") or 0) < 0:
        found.append(
            f"{where}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    return found + _pod_affinity(f"{where}.affinity", sub(spec, "affinity"))


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


def _annotations(at: str, holder: Object, spec: Object) -> list[str]:
    found: list[str] = []
    annotations = strings(holder, "metadata", "annotations")
    for key in sorted(annotations):
        if key in _ANNOTATIONS:
            found.append(f"{at}[{key}]: {_ANNOTATIONS[key]}")
        elif key.startswith(_SECCOMP_PREFIX):
            found.append(f"{at}[{key}]: {_SECCOMP}")
        elif key.startswith(_APP_ARMOR_PREFIX) and not _has_app_armor(key, spec):
            found.append(f'{at}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
    return found


def _has_app_armor(key: str, spec: Object) -> bool:
    name = key.removeprefix(_APP_ARMOR_PREFIX)
    containers = (*items(spec, "initContainers"), *items(spec, "containers"))
    return any(text(c, "name") == name and sub(c, "securityContext", "appArmorProfile") for c in containers)


def _repeated(where: str, spec: Object) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for index, secret in enumerate(items(spec, "imagePullSecrets")):
        name = text(secret, "name")
        if not name:
            found.append(f"{where}.imagePullSecrets[{index}].name: invalid empty name {show(name)}")
        elif name in seen:
            found.append(f"{where}.imagePullSecrets[{index}].name: duplicate name {show(name)}")
        seen.add(name)
    seen.clear()
    for index, alias in enumerate(items(spec, "hostAliases")):
        address = text(alias, "ip")
        if address in seen:
            found.append(f"{where}.hostAliases[{index}].ip: duplicate ip {show(address)}")
        seen.add(address)
    return found


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


def _containers(where: str, spec: Object) -> list[str]:
    found: list[str] = []
    listed = [
        (f"{where}.{kind}[{index}]", container)
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for index, container in enumerate(items(spec, kind))
    ]
    for at, container in listed:
        seen: set[str] = set()
        for index, variable in enumerate(items(container, "env")):
            name = text(variable, "name")
            if name in seen and f"$({name})" not in text(variable, "value"):
                detail = f"hides previous definition of {show(name)}, which may be dropped when using apply"
                found.append(f"{at}.env[{index}]: {detail}")
            seen.add(name)
        found += fractional(f"{at}.resources", sub(container, "resources"))
    return found + _ports(listed)


def _ports(listed: list[tuple[str, Object]]) -> list[str]:
    found: list[str] = []
    names_of: dict[str, tuple[str, str]] = {}
    for at, container in listed:
        earlier: list[tuple[str, Object]] = []
        for index, port in enumerate(items(container, "ports")):
            here = f"{at}.ports[{index}]"
            match = _match(port, earlier)
            if match:
                found.append(f"{here}: {match}")
            earlier.append((here, port))
            name = text(port, "name")
            if name and name in names_of and names_of[name][0] != at:
                first = names_of[name][1]
                found.append(
                    f"{here}: duplicate port name {show(name)} with {first}, "
                    f"services and probes that select ports by name will use {first}"
                )
            elif name:
                names_of.setdefault(name, (at, here))
    return found


def _match(port: Object, earlier: list[tuple[str, Object]]) -> str:
    for where, other in earlier:
        if number(port, "containerPort") != number(other, "containerPort"):
            continue
        if text(port, "protocol") != text(other, "protocol"):
            continue
        same_host = number(port, "hostPort") == number(other, "hostPort") and text(port, "hostIP") == text(
            other, "hostIP"
        )
        if same_host:
            return f"duplicate port definition with {where}"
        if not number(port, "hostPort") or not number(other, "hostPort"):
            return f"overlapping port definition with {where}"
    return ""
