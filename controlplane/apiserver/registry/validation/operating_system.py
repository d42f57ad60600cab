"""What pods of one operating system may not set.

Source: pkg/apis/core/validation/validation.go (validateOS, validateWindows, validateLinux).
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import flag, items, sub, text
from controlplane.apiserver.registry.validation.parts import unsupported
from machinery.api.fielderror import FieldError, forbidden, invalid, required, show
from machinery.api.meta import Object

SYSTEMS = ("linux", "windows")
_FOR_WINDOWS = "cannot be set for a windows pod"
_POD_CONTEXT = (
    "appArmorProfile",
    "seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "shareProcessNamespace",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_BESIDE_CONTEXT = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_CONTAINER_CONTEXT = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def operating_system(at: str, spec: Object) -> list[FieldError]:
    """`os` of a pod, and what it rules out."""
    system = spec.get("os")
    if not isinstance(system, dict):
        return []
    name = text(system, "name")
    if not name:
        return [required(f"{at}.os.name", "cannot be empty")]
    if name not in SYSTEMS:
        return [unsupported(f"{at}.os", name, SYSTEMS)]
    return _windows(at, spec) if name == "windows" else _linux(at, spec)


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
    context = sub(spec, "securityContext")
    for key in _POD_CONTEXT:
        # What shares with the host stands beside the security context.
        own = key in _BESIDE_CONTEXT
        if (spec if own else context).get(key) not in (
            (None, False) if key in ("hostPID", "hostIPC") else (None, [], "")
        ):
            errors.append(forbidden(f"{at}.{key}" if own else f"{at}.securityContext.{key}", _FOR_WINDOWS))
    for where, container in _containers(spec):
        given = sub(container, "securityContext")
        errors += [
            forbidden(f"{at}.{where}.securityContext.{key}", _FOR_WINDOWS)
            for key in _CONTAINER_CONTEXT
            if given.get(key) is not None
        ]
    return errors


def host_process(at: str, spec: Object) -> list[FieldError]:
    """If one container is a host process of Windows, all are, on the host's network."""
    of_pod = sub(spec, "securityContext", "windowsOptions").get("hostProcess")
    errors: list[FieldError] = []
    wanted: list[bool] = []
    for where, container in _containers(spec):
        own = sub(container, "securityContext", "windowsOptions").get("hostProcess")
        if own is not None and of_pod is not None and own != of_pod:
            at_own = f"{at}.{where}.securityContext.windowsOptions.hostProcess"
            told = f"pod hostProcess value must be identical if both are specified, was {show(of_pod)}"
            errors.append(invalid(at_own, own, told))
        wanted.append((own if own is not None else of_pod) is True)
    if not any(wanted):
        return errors
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
