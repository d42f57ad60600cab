"""Security contexts of pods and containers.

Source: pkg/apis/core/validation/validation.go (ValidateSecurityContext, validatePodSecurityContext, …).
"""

from __future__ import annotations

import re

from controlplane.apiserver.registry.objects import flag, integer, items, number, text, values
from controlplane.apiserver.registry.validation.env import local_path
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, repeated, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_SYSCTL_TEXT = (
    "must have at most 253 characters and match regex "
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)
_IDS = (("runAsUser", "runAsUser"), ("runAsGroup", "runAsGroup"), ("fsGroup", "fsGroup"))


def _identity(field: str, value: int | None) -> list[FieldError]:
    return [] if value is None else [invalid(field, value, message) for message in names.user_id(value)]


def container_security(field: str, context: Object | None, *, host_users: bool = True) -> list[FieldError]:
    """The security context of a container."""
    if context is None:
        return []
    errors = _identity(f"{field}.runAsUser", integer(context, "runAsUser"))
    errors += _identity(f"{field}.runAsGroup", integer(context, "runAsGroup"))
    mount = context.get("procMount")
    if isinstance(mount, str):
        if mount not in ("Default", "Unmasked"):
            errors.append(unsupported(f"{field}.procMount", mount, ("Default", "Unmasked")))
        elif mount == "Unmasked" and host_users:
            errors.append(invalid(f"{field}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    errors += seccomp_profile(f"{field}.seccompProfile", dictionary(context, "seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        if flag(context, "privileged"):
            errors.append(
                invalid(
                    field,
                    _shown(context),
                    "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                )
            )
        if "CAP_SYS_ADMIN" in values(context, "capabilities", "add"):
            errors.append(
                invalid(
                    field,
                    _shown(context),
                    "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
                )
            )
    errors += windows_options(f"{field}.windowsOptions", dictionary(context, "windowsOptions"))
    return errors + app_armor_profile(f"{field}.appArmorProfile", dictionary(context, "appArmorProfile"))


_CONTEXT_FIELDS = (
    ("Capabilities", "capabilities"),
    ("Privileged", "privileged"),
    ("SELinuxOptions", "seLinuxOptions"),
    ("WindowsOptions", "windowsOptions"),
    ("RunAsUser", "runAsUser"),
    ("RunAsGroup", "runAsGroup"),
    ("RunAsNonRoot", "runAsNonRoot"),
    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
    ("ProcMount", "procMount"),
    ("SeccompProfile", "seccompProfile"),
    ("AppArmorProfile", "appArmorProfile"),
)


def _shown(context: Object) -> Object:
    """A security context as upstream's internal type prints it."""
    shown = {name: context.get(key) for name, key in _CONTEXT_FIELDS}
    if isinstance(found := shown["Capabilities"], dict):
        shown["Capabilities"] = {"Add": found.get("add"), "Drop": found.get("drop")}
    return shown


def seccomp_profile(field: str, profile: Object | None) -> list[FieldError]:
    """`seccompProfile`."""
    if profile is None:
        return []
    kind, path = text(profile, "type"), profile.get("localhostProfile")
    if kind == "Localhost":
        if not isinstance(path, str):
            return [required(f"{field}.localhostProfile", "must be set when seccomp type is Localhost")]
        return local_path(f"{field}.localhostProfile", path)
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{field}.type", "type is required when seccompProfile is set"))
    elif kind not in ("RuntimeDefault", "Unconfined"):
        errors.append(unsupported(f"{field}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined")))
    if path is not None:
        shown = {"Type": kind, "LocalhostProfile": path}
        errors.append(invalid(f"{field}.localhostProfile", shown, "can only be set when seccomp type is Localhost"))
    return errors


def app_armor_profile(field: str, profile: Object | None) -> list[FieldError]:
    """`appArmorProfile`."""
    if profile is None:
        return []
    kind, name = text(profile, "type"), profile.get("localhostProfile")
    errors: list[FieldError] = []
    at = f"{field}.localhostProfile"
    if kind == "Localhost":
        if not isinstance(name, str):
            return [required(at, "must be set when AppArmor type is Localhost")]
        stripped = name.strip()
        if stripped != name:
            errors.append(invalid(at, name, "must not be padded with whitespace"))
        elif not stripped:
            errors.append(required(at, "must be set when AppArmor type is Localhost"))
        if len(name) > 4095:
            errors.append(FieldError("FieldValueTooLong", at, "Too long: may not be more than 4095 bytes"))
        return errors
    if kind in ("RuntimeDefault", "Unconfined"):
        return [] if name is None else [invalid(at, name, "can only be set when AppArmor type is Localhost")]
    if not kind:
        return [required(f"{field}.type", "type is required when appArmorProfile is set")]
    return [unsupported(f"{field}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined"))]


_GMSA_NAME = "gmsaCredentialSpecName"


def windows_options(field: str, options: Object | None) -> list[FieldError]:
    """`windowsOptions`."""
    if options is None:
        return []
    errors: list[FieldError] = []
    name = options.get(_GMSA_NAME)
    if isinstance(name, str):
        errors += check_names(f"{field}.{_GMSA_NAME}", name, names.dns1123_subdomain)
    credential = options.get("gmsaCredentialSpec")
    if isinstance(credential, str):
        if not credential:
            errors.append(
                invalid(f"{field}.gmsaCredentialSpec", credential, "gmsaCredentialSpec cannot be an empty string")
            )
        elif len(credential) > 64 * 1024:
            detail = "gmsaCredentialSpec size must be under 64 KiB"
            errors.append(invalid(f"{field}.gmsaCredentialSpec", credential, detail))
    user = options.get("runAsUserName")
    if isinstance(user, str):
        errors += _windows_user(f"{field}.runAsUserName", user)
    return errors


_NET_BIOS = re.compile(r"""[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}""")
_WINDOWS_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_WINDOWS_DOMAIN = re.compile(rf"{_WINDOWS_LABEL}(?:\.{_WINDOWS_LABEL})*")


def _windows_user(field: str, user: str) -> list[FieldError]:
    if not user:
        return [invalid(field, user, "runAsUserName cannot be an empty string")]
    if any(ord(c) < 32 or ord(c) == 127 for c in user):
        return [invalid(field, user, "runAsUserName cannot contain control characters")]
    parts = user.split("\\")
    if len(parts) > 2:
        return [invalid(field, user, "runAsUserName cannot contain more than one backslash")]
    errors: list[FieldError] = []
    if len(parts) == 2:
        domain = parts[0]
        if len(domain.encode("utf-8", "surrogatepass")) >= 256:
            errors.append(invalid(field, user, "runAsUserName's Domain length must be under 256 characters"))
        if not (_NET_BIOS.fullmatch(domain) or _WINDOWS_DOMAIN.fullmatch(domain)):
            errors.append(invalid(field, user, "runAsUserName's Domain doesn't match the NetBios nor the DNS format"))
    name = parts[-1]
    if not name:
        errors.append(invalid(field, user, "runAsUserName's User cannot be empty"))
    elif len(name.encode("utf-8", "surrogatepass")) > 104:
        errors.append(invalid(field, user, "runAsUserName's User length must not be longer than 104 characters"))
    if set(name) and set(name) <= set(". "):
        errors.append(invalid(field, user, "runAsUserName's User cannot contain only periods or spaces"))
    if set(name) & set('"/\\:;|=,+*?<>@[]'):
        detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
        errors.append(invalid(field, user, detail))
    return errors


_HOST_FLAGS = ("hostNetwork", "hostPID", "hostIPC")


def host_namespaces(field: str, spec: Object) -> list[FieldError]:
    """What shares the host's namespaces must be consistent with that."""
    errors: list[FieldError] = []
    at_pod = field == "spec"
    for index, container in enumerate(items(spec, "containers") if flag(spec, "hostNetwork") else ()):
        for position, port in enumerate(items(container, "ports")):
            outside, inside = number(port, "hostPort"), number(port, "containerPort")
            # Pods made from a template get their host ports when they are made.
            if outside != inside and (outside or at_pod):
                at = f"{field}.containers[{index}].ports[{position}].hostPort"
                errors.append(invalid(at, outside, "must match `containerPort` when `hostNetwork` is true"))
    return errors


def pod_security(field: str, spec: Object) -> list[FieldError]:
    """The security context of a pod; `field` is that of the spec."""
    context = dictionary(spec, "securityContext")
    errors: list[FieldError] = []
    at = f"{field}.securityContext"
    if context is None:
        context = {}
    for key, name in (_IDS[2], _IDS[0], _IDS[1]):
        errors += _identity(f"{at}.{name}", integer(context, key))
    for index, group in enumerate(values(context, "supplementalGroups")):
        if isinstance(group, int):
            errors += _identity(f"{at}.supplementalGroups[{index}]", group)
    if flag(spec, "shareProcessNamespace") and flag(spec, "hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid(f"{at}.shareProcessNamespace", True, detail))
    errors += _sysctls(f"{at}.sysctls", items(context, "sysctls"), spec)
    policy = context.get("fsGroupChangePolicy")
    if isinstance(policy, str) and policy not in ("Always", "OnRootMismatch"):
        errors.append(unsupported(f"{at}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch")))
    errors += seccomp_profile(f"{at}.seccompProfile", dictionary(context, "seccompProfile"))
    errors += windows_options(f"{at}.windowsOptions", dictionary(context, "windowsOptions"))
    errors += app_armor_profile(f"{at}.appArmorProfile", dictionary(context, "appArmorProfile"))
    groups = context.get("supplementalGroupsPolicy")
    if isinstance(groups, str) and groups not in ("Merge", "Strict"):
        errors.append(unsupported(f"{at}.supplementalGroupsPolicy", groups, ("Merge", "Strict")))
    change = context.get("seLinuxChangePolicy")
    if isinstance(change, str) and change not in ("Recursive", "MountOption"):
        errors.append(unsupported(f"{at}.seLinuxChangePolicy", change, ("MountOption", "Recursive")))
    return errors


def host_users(field: str, spec: Object) -> list[FieldError]:
    """What shares users with the host may share no more with it, and the other way round."""
    if spec.get("hostUsers") is not False:
        return []
    errors = []
    errors += [
        forbidden(f"{field}.{key}", f"when `hostUsers` is false, `{key}` must be false or unset")
        for key in ("hostPID", "hostIPC")
        if flag(spec, key)
    ]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(items(spec, kind)):
            if items(container, "volumeDevices"):
                at = f"{field}.{kind}[{index}].volumeDevices"
                errors.append(forbidden(at, "when `hostUsers` is false, `volumeDevices` must be unset"))
    return errors


def _sysctls(field: str, sysctls: list[Object], spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        name = text(sysctl, "name")
        at = f"{field}[{index}].name"
        if not name:
            errors.append(required(at))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            errors.append(invalid(at, name, _SYSCTL_TEXT))
        elif name in seen:
            errors.append(repeated(at, name))
        errors += _namespaced(at, name, spec)
        seen.add(name)
    return errors


def _canonical(name: str) -> str:
    dot, slash = name.find("."), name.find("/")
    if slash == -1 or (dot != -1 and dot < slash):
        return name
    return name.translate(str.maketrans("./", "/."))


def _namespaced(field: str, name: str, spec: Object) -> list[FieldError]:
    canonical = _canonical(name)
    if flag(spec, "hostNetwork") and canonical.startswith("net."):
        return [invalid(field, name, "may not be specified when 'hostNetwork' is true")]
    ipc = canonical.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or canonical == "kernel.sem"
    if flag(spec, "hostIPC") and ipc:
        return [invalid(field, name, "may not be specified when 'hostIPC' is true")]
    return []
