"""What pods of one operating system may not set.

Source: pkg/apis/core/validation/validation.go (validateOS, validateWindows, validateLinux).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import flag, items, sub, text
from controlplane.apiserver.registry.validation.parts import unsupported
from machinery.api.fielderror import FieldError, forbidden, required
from machinery.api.meta import Object

SYSTEMS = ("linux", "windows")
_FOR_WINDOWS = "cannot be set for a windows pod"
_POD_CONTEXT = (
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "appArmorProfile",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
)
_CONTAINER_CONTEXT = (
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
    "appArmorProfile",
)


def operating_system(at: str, spec: Object) -> list[FieldError]:
    """`os` of a pod, and what it rules out."""
    system = spec.get("os")
    if not isinstance(system, dict):
        return _host_process(at, spec)
    name = text(system, "name")
    errors = _host_process(at, spec)
    if not name:
        errors.append(required(f"{at}.os.name", "cannot be empty"))
    elif name not in SYSTEMS:
        errors.append(unsupported(f"{at}.os", name, SYSTEMS))
    if name == "windows":
        errors += _windows(at, spec)
    elif name == "linux":
        errors += _linux(at, spec)
    return errors


def _containers(spec: Object) -> list[tuple[str, Object]]:
    return [
        (f"{kind}[{index}]", container)
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for index, container in enumerate(items(spec, kind))
    ]


def _linux(at: str, spec: Object) -> list[FieldError]:
    detail = "windows options cannot be set for a linux pod"
    errors: list[FieldError] = []
    if sub(spec, "securityContext").get("windowsOptions") is not None:
        errors.append(forbidden(f"{at}.securityContext.windowsOptions", detail))
    for where, container in _containers(spec):
        if sub(container, "securityContext").get("windowsOptions") is not None:
            errors.append(forbidden(f"{at}.{where}.securityContext.windowsOptions", detail))
    return errors


def _windows(at: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if spec.get("hostUsers") is not None:
        errors.append(forbidden(f"{at}.hostUsers", _FOR_WINDOWS))
    errors += [
        forbidden(f"{at}.securityContext.{key}", _FOR_WINDOWS) for key in ("hostPID", "hostIPC") if flag(spec, key)
    ]
    context = sub(spec, "securityContext")
    for key in _POD_CONTEXT:
        if context.get(key) not in (None, [], ""):
            errors.append(forbidden(f"{at}.securityContext.{key}", _FOR_WINDOWS))
    if spec.get("shareProcessNamespace") is not None:
        errors.append(forbidden(f"{at}.shareProcessNamespace", _FOR_WINDOWS))
    for where, container in _containers(spec):
        own = sub(container, "securityContext")
        for key in _CONTAINER_CONTEXT:
            if own.get(key) is not None:
                errors.append(forbidden(f"{at}.{where}.securityContext.{key}", _FOR_WINDOWS))
    return errors


def _host_process(at: str, spec: Object) -> list[FieldError]:
    """If one container is a host process of Windows, all are, on the host's network."""
    of_pod = sub(spec, "securityContext", "windowsOptions").get("hostProcess")
    wanted = [
        sub(container, "securityContext", "windowsOptions").get("hostProcess", of_pod) is True
        for _, container in _containers(spec)
    ]
    if not any(wanted):
        return []
    errors: list[FieldError] = []
    if not all(wanted):
        errors.append(
            FieldError(
                "FieldValueInvalid",
                at,
                'Invalid value: "": If pod contains any hostProcess containers then all containers must be HostProcess '
                "containers",
            )
        )
    if not flag(spec, "hostNetwork"):
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(FieldError("FieldValueInvalid", f"{at}.hostNetwork", f"Invalid value: false: {detail}"))
    return errors
