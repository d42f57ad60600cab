"""Containers, init containers and ephemeral containers.

Source: pkg/apis/core/validation/validation.go (validateContainerCommon, validateContainers, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute

from controlplane.apiserver.registry.objects import flag, integer, items, number, sub, text, values
from controlplane.apiserver.registry.validation.env import environment, environment_from, local_path
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, missing, repeated, unsupported
from controlplane.apiserver.registry.validation.probes import lifecycle, probes
from controlplane.apiserver.registry.validation.resources import container_resources
from controlplane.apiserver.registry.validation.security import container_security
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the pod a container's rules depend on."""

    volumes: Mapping[str, Object] = attribute(default_factory=dict)
    claims: frozenset[str] = frozenset()
    grace_seconds: int | None = None
    restart_policy: str = "Always"
    host_users: bool = True
    os: str = ""

    @property
    def empty_dirs(self) -> frozenset[str]:
        """Volumes that fileKeyRef may name."""
        return frozenset(n for n, v in self.volumes.items() if isinstance(v.get("emptyDir"), dict))


def containers(at: str, found: list[Object], around: Surroundings, names_before: set[str]) -> list[FieldError]:
    """The ordinary containers of a pod."""
    if not found:
        return [required(at)]
    errors: list[FieldError] = []
    seen = names_before
    for index, container in enumerate(found):
        where = f"{at}[{index}]"
        errors += common(where, container, around)
        name = text(container, "name")
        if name in seen:
            errors.append(repeated(f"{where}.name", name))
        seen.add(name)
        errors += lifecycle(f"{where}.lifecycle", dictionary(container, "lifecycle"), around.grace_seconds, around.os)
        errors += probes(container, where, around.grace_seconds)
        errors += _restart_policy(where, container)
    # Host ports of the pod's containers must not collide with each other.
    return errors + _host_port_conflicts(at, found)


def _restart_policy(where: str, container: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    policy = container.get("restartPolicy")
    rules = items(container, "restartPolicyRules")
    if isinstance(policy, str):
        if policy not in ("Always", "OnFailure", "Never"):
            errors.append(unsupported(f"{where}.restartPolicy", policy, ("Always", "OnFailure", "Never")))
    elif rules:
        errors.append(required(f"{where}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    return errors + _restart_rules(f"{where}.restartPolicyRules", rules)


def _restart_rules(where: str, rules: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(rules) > 20:
        errors.append(FieldError("FieldValueTooMany", where, f"Too many: {len(rules)}: must have at most 20 items"))
    for index, rule in enumerate(rules):
        at = f"{where}[{index}]"
        if text(rule, "action") not in ("Restart", "RestartAllContainers"):
            errors.append(unsupported(f"{at}.action", text(rule, "action"), ("Restart", "RestartAllContainers")))
        codes = dictionary(rule, "exitCodes")
        if codes is None:
            errors.append(required(f"{at}.exitCodes", "must be specified"))
            continue
        if text(codes, "operator") not in ("In", "NotIn"):
            errors.append(unsupported(f"{at}.exitCodes.operator", text(codes, "operator"), ("In", "NotIn")))
        if len(values(codes, "values")) > 255:
            errors.append(
                FieldError(
                    "FieldValueTooMany",
                    f"{at}.exitCodes.values",
                    f"Too many: {len(values(codes, 'values'))}: must have at most 255 items",
                )
            )
    return errors


def init_containers(
    at: str, found: list[Object], ordinary: list[Object], around: Surroundings, seen: set[str]
) -> list[FieldError]:
    """Init containers and sidecars."""
    errors: list[FieldError] = []
    others = {text(c, "name") for c in ordinary}
    for index, container in enumerate(found):
        where = f"{at}[{index}]"
        errors += common(where, container, around)
        policy = container.get("restartPolicy")
        rules = items(container, "restartPolicyRules")
        sidecar = policy == "Always"
        if isinstance(policy, str) and policy not in ("Always", "OnFailure", "Never"):
            errors.append(unsupported(f"{where}.restartPolicy", policy, ("Always", "OnFailure", "Never")))
        elif policy is None and rules:
            errors.append(required(f"{where}.restartPolicy", "must specify restartPolicy when restart rules are used"))
        errors += _restart_rules(f"{where}.restartPolicyRules", rules)
        name = text(container, "name")
        if name in seen or name in others:
            errors.append(repeated(f"{where}.name", name))
        elif name:
            seen.add(name)
        errors += _host_port_conflicts(at, [container])
        if sidecar:
            hooks = dictionary(container, "lifecycle")
            errors += lifecycle(f"{where}.lifecycle", hooks, around.grace_seconds, around.os)
            errors += probes(container, where, around.grace_seconds)
            continue
        for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(key) is not None:
                detail = "may not be set for init containers without restartPolicy=Always"
                errors.append(forbidden(f"{where}.{key}", detail))
    return errors


_NOT_FOR_EPHEMERAL = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
)


_POINTERS = frozenset(("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"))
"""What is there even if there is nothing in it."""


def ephemeral_containers(at: str, found: list[Object], spec: Object, around: Surroundings) -> list[FieldError]:
    """Containers that are added to a running pod for a look inside."""
    if not found:
        return []
    errors: list[FieldError] = []
    others = {text(c, "name") for c in (*items(spec, "containers"), *items(spec, "initContainers"))}
    seen: set[str] = set()
    for index, container in enumerate(found):
        where = f"{at}[{index}]"
        errors += common(where, container, around)
        image = text(container, "image")
        if image != image.strip():
            errors.append(invalid(f"{where}.image", image, "must not have leading or trailing whitespace"))
        name = text(container, "name")
        if name in seen or name in others:
            errors.append(repeated(f"{where}.name", name))
        seen.add(name)
        target = text(container, "targetContainerName")
        if target and target not in others:
            errors.append(missing(f"{where}.targetContainerName", target))
        errors += [
            forbidden(f"{where}.{key}", "cannot be set for an Ephemeral Container")
            for key in _NOT_FOR_EPHEMERAL
            if container.get(key) or (key in _POINTERS and container.get(key) is not None)
        ]
        for position, mount in enumerate(items(container, "volumeMounts")):
            for key in ("subPath", "subPathExpr"):
                if text(mount, key):
                    detail = "cannot be set for an Ephemeral Container"
                    errors.append(forbidden(f"{where}.volumeMounts[{position}].{key}", detail))
    return errors


def common(where: str, container: Object, around: Surroundings) -> list[FieldError]:
    """What all containers must be."""
    errors: list[FieldError] = []
    name, image = text(container, "name"), text(container, "image")
    if not name:
        errors.append(required(f"{where}.name"))
    else:
        errors += check_names(f"{where}.name", name, names.dns1123_label)
    if not image:
        errors.append(required(f"{where}.image"))
    policy = text(container, "terminationMessagePolicy")
    if not policy:
        errors.append(required(f"{where}.terminationMessagePolicy"))
    elif policy not in ("File", "FallbackToLogsOnError"):
        errors.append(unsupported(f"{where}.terminationMessagePolicy", policy, ("File", "FallbackToLogsOnError")))
    devices = {text(d, "name"): text(d, "devicePath") for d in items(container, "volumeDevices")}
    errors += _ports(f"{where}.ports", items(container, "ports"))
    errors += environment(f"{where}.env", items(container, "env"), around.empty_dirs)
    errors += environment_from(f"{where}.envFrom", items(container, "envFrom"))
    errors += volume_mounts(f"{where}.volumeMounts", items(container, "volumeMounts"), devices, around, container)
    errors += _volume_devices(f"{where}.volumeDevices", items(container, "volumeDevices"), around, container)
    pull = text(container, "imagePullPolicy")
    if not pull:
        errors.append(required(f"{where}.imagePullPolicy"))
    elif pull not in PULL_POLICIES:
        errors.append(unsupported(f"{where}.imagePullPolicy", pull, PULL_POLICIES))
    errors += container_resources(f"{where}.resources", sub(container, "resources"), around.claims)
    errors += _resize_policies(f"{where}.resizePolicy", items(container, "resizePolicy"), around)
    security = dictionary(container, "securityContext")
    return errors + container_security(f"{where}.securityContext", security, host_users=around.host_users)


def _ports(where: str, ports: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at = f"{where}[{index}]"
        if name := text(port, "name"):
            wrong = names.port_name(name)
            errors += [invalid(f"{at}.name", name, message) for message in wrong]
            if not wrong:
                if name in seen:
                    errors.append(repeated(f"{at}.name", name))
                seen.add(name)
        inside = number(port, "containerPort")
        if not inside:
            errors.append(required(f"{at}.containerPort"))
        else:
            errors += [invalid(f"{at}.containerPort", inside, message) for message in names.port_number(inside)]
        if outside := number(port, "hostPort"):
            errors += [invalid(f"{at}.hostPort", outside, message) for message in names.port_number(outside)]
        protocol = text(port, "protocol")
        if not protocol:
            errors.append(required(f"{at}.protocol"))
        elif protocol not in PROTOCOLS:
            errors.append(unsupported(f"{at}.protocol", protocol, PROTOCOLS))
    return errors


def _host_port_conflicts(at: str, found: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    taken: set[str] = set()
    for index, container in enumerate(found):
        where = f"{at}[{index}]"
        for position, port in enumerate(items(container, "ports")):
            outside = number(port, "hostPort")
            if not outside:
                continue
            key = f"{text(port, 'protocol')}/{text(port, 'hostIP')}/{outside}"
            if key in taken:
                errors.append(repeated(f"{where}.ports[{position}].hostPort", key))
            taken.add(key)
    return errors


def volume_mounts(
    where: str, mounts: list[Object], devices: Mapping[str, str], around: Surroundings, container: Object
) -> list[FieldError]:
    """Where volumes appear in a container."""
    errors: list[FieldError] = []
    points: set[str] = set()
    for index, mount in enumerate(mounts):
        at = f"{where}[{index}]"
        name, path = text(mount, "name"), text(mount, "mountPath")
        if not name:
            errors.append(required(f"{at}.name"))
        if name not in around.volumes:
            errors.append(missing(f"{at}.name", name))
        if not path:
            errors.append(required(f"{at}.mountPath"))
        if path in points:
            errors.append(invalid(f"{at}.mountPath", path, "must be unique"))
        points.add(path)
        if name in devices:
            errors.append(invalid(f"{at}.name", name, "must not already exist in volumeDevices"))
        if path in devices.values():
            errors.append(invalid(f"{at}.mountPath", path, "must not already exist as a path in volumeDevices"))
        if isinstance(around.volumes.get(name, {}).get("image"), dict) and (inner := text(mount, "subPathExpr")):
            errors.append(invalid(f"{at}.subPathExpr", inner, "not allowed in image volume sources"))
        if inner := text(mount, "subPath"):
            errors += local_path(f"{where}.subPath", inner)
        if inner := text(mount, "subPathExpr"):
            if text(mount, "subPath"):
                errors.append(invalid(f"{at}.subPathExpr", inner, "subPathExpr and subPath are mutually exclusive"))
            errors += local_path(f"{where}.subPathExpr", inner)
        errors += _propagation(f"{where}.mountPropagation", mount, container)
        errors += _recursive_read_only(f"{where}.recursiveReadOnly", mount)
    return errors


def _propagation(at: str, mount: Object, container: Object) -> list[FieldError]:
    mode = mount.get("mountPropagation")
    if not isinstance(mode, str):
        return []
    errors: list[FieldError] = []
    allowed = ("Bidirectional", "HostToContainer", "None")
    if mode not in allowed:
        errors.append(unsupported(at, mode, allowed))
    if mode == "Bidirectional" and not flag(container, "securityContext", "privileged"):
        errors.append(forbidden(at, "Bidirectional mount propagation is available only to privileged containers"))
    return errors


def _recursive_read_only(at: str, mount: Object) -> list[FieldError]:
    mode = mount.get("recursiveReadOnly")
    if not isinstance(mode, str):
        return []
    if mode == "Disabled":
        return []
    if mode not in ("IfPossible", "Enabled"):
        return [unsupported(at, mode, ("Disabled", "Enabled", "IfPossible"))]
    errors: list[FieldError] = []
    if not flag(mount, "readOnly"):
        errors.append(forbidden(at, "may only be specified when readOnly is true"))
    if text(mount, "mountPropagation") not in ("", "None"):
        errors.append(forbidden(at, "may only be specified when mountPropagation is None or not specified"))
    return errors


def _volume_devices(where: str, devices: list[Object], around: Surroundings, container: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    mounted = {text(m, "name"): text(m, "mountPath") for m in items(container, "volumeMounts")}
    seen_names: set[str] = set()
    seen_paths: set[str] = set()
    for index, device in enumerate(devices):
        at = f"{where}[{index}]"
        name, path = text(device, "name"), text(device, "devicePath")
        volume = around.volumes.get(name)
        if not name:
            errors.append(required(f"{at}.name"))
        if name in seen_names:
            errors.append(invalid(f"{at}.name", name, "must be unique"))
        if volume is not None and not (
            isinstance(volume.get("persistentVolumeClaim"), dict) or isinstance(volume.get("ephemeral"), dict)
        ):
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid(f"{at}.name", name, detail))
        if volume is None:
            errors.append(missing(f"{at}.name", name))
        if not path:
            errors.append(required(f"{at}.devicePath"))
        if path in seen_paths:
            errors.append(invalid(f"{at}.devicePath", path, "must be unique"))
        if path and ".." in path.split("/"):
            errors.append(invalid(f"{at}.devicePath", path, "can not contain backsteps ('..')"))
        else:
            seen_paths.add(path)
        if name in mounted:
            errors.append(invalid(f"{at}.name", name, "must not already exist in volumeMounts"))
        if path in mounted.values():
            errors.append(invalid(f"{at}.devicePath", path, "must not already exist as a path in volumeMounts"))
        if name:
            seen_names.add(name)
    return errors


def _resize_policies(where: str, policies: list[Object], around: Surroundings) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        resource, restart = text(policy, "resourceName"), text(policy, "restartPolicy")
        if resource in seen:
            errors.append(repeated(f"{where}[{index}]", resource))
        seen.add(resource)
        if not resource:
            errors.append(required(where))
        elif resource not in ("cpu", "memory"):
            errors.append(unsupported(where, resource, ("cpu", "memory")))
        if not restart:
            errors.append(required(where))
        elif restart not in ("NotRequired", "RestartContainer"):
            errors.append(unsupported(where, restart, ("NotRequired", "RestartContainer")))
        if around.restart_policy == "Never" and restart != "NotRequired":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid(where, restart, detail))
    return errors


def grace_of(spec: Object) -> int | None:
    """How long the pod may take to end."""
    return integer(spec, "terminationGracePeriodSeconds")
