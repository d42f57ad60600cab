"""Environment variables of containers.

Source: pkg/apis/core/validation/validation.go (ValidateEnv, validateEnvVarValueFrom, ValidateEnvFrom).
"""

from __future__ import annotations

import re
from typing import Any

from controlplane.apiserver.registry.objects import sub, text
from controlplane.apiserver.registry.validation.parts import check_names, dictionary, missing, unsupported
from controlplane.apiserver.registry.validation.resources import parse
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required
from machinery.api.meta import Object

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
ENV_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
# Field labels that the API converts although environment variables can't use them.
_CONVERTIBLE = frozenset(
    (
        *ENV_FIELDS,
        *VOLUME_FIELDS,
        "spec.restartPolicy",
        "spec.schedulerName",
        "status.phase",
    )
)
_SUBSCRIPT = re.compile(r"(.+?)\['(.*)'\]", re.DOTALL)


def env_name(value: str) -> list[str]:
    """The name of an environment variable."""
    return names.relaxed_env_var_name(value)


def environment(field: str, variables: list[Object], files: frozenset[str]) -> list[FieldError]:
    """`env` of a container; `files` are the pod's emptyDir volumes, which fileKeyRef may name."""
    errors: list[FieldError] = []
    for index, variable in enumerate(variables):
        at = f"{field}[{index}]"
        name = text(variable, "name")
        if not name:
            errors.append(required(f"{at}.name"))
        else:
            errors += [invalid(f"{at}.name", name, message) for message in env_name(name)]
        errors += _value_from(f"{at}.valueFrom", variable, files)
    return errors


def _value_from(field: str, variable: Object, files: frozenset[str]) -> list[FieldError]:
    source = dictionary(variable, "valueFrom")
    if source is None:
        return []
    errors: list[FieldError] = []
    count = 0
    if (reference := dictionary(source, "fieldRef")) is not None:
        count += 1
        errors += field_reference(f"{field}.fieldRef", reference, ENV_FIELDS)
    if (reference := dictionary(source, "resourceFieldRef")) is not None:
        count += 1
        errors += resource_reference(f"{field}.resourceFieldRef", reference, volume=False)
    if (reference := dictionary(source, "configMapKeyRef")) is not None:
        count += 1
        errors += _key_reference(f"{field}.configMapKeyRef", reference)
    if (reference := dictionary(source, "secretKeyRef")) is not None:
        count += 1
        errors += _key_reference(f"{field}.secretKeyRef", reference)
    if (reference := dictionary(source, "fileKeyRef")) is not None:
        count += 1
        errors += _file_reference(f"{field}.fileKeyRef", reference, files)
    if count == 0:
        detail = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(invalid(field, "", detail))
    elif text(variable, "value"):
        errors.append(invalid(field, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(invalid(field, "", "may not have more than one field specified at a time"))
    return errors


def field_reference(field: str, reference: Object, allowed: tuple[str, ...]) -> list[FieldError]:
    """`fieldRef`: a field of the pod itself."""
    if not text(reference, "apiVersion"):
        return [required(f"{field}.apiVersion")]
    path = text(reference, "fieldPath")
    at = f"{field}.fieldPath"
    if not path:
        return [required(at)]
    if (version := text(reference, "apiVersion")) != "v1":
        return [invalid(at, path, f"error converting fieldPath: unsupported pod version: {version}")]
    if subscript := _SUBSCRIPT.fullmatch(path):
        where, key = subscript.groups()
        if where not in ("metadata.annotations", "metadata.labels"):
            return [invalid(at, path, f"error converting fieldPath: field label does not support subscript: {path}")]
        # The keys of annotations are compared without regard to case.
        return check_names(field, key.lower() if where == "metadata.annotations" else key, names.qualified_name)
    if path not in _CONVERTIBLE:
        return [invalid(at, path, f"error converting fieldPath: field label not supported: {path}")]
    if path not in allowed:
        return [unsupported(at, path, sorted(allowed))]
    return []


def resource_reference(field: str, reference: Object, *, volume: bool) -> list[FieldError]:
    """`resourceFieldRef`: what a container requests, or may use."""
    resource = text(reference, "resource")
    known = resource in ENV_RESOURCES or resource.startswith(("limits.hugepages-", "requests.hugepages-"))
    errors = _divisor(f"{field}.divisor", resource, reference.get("divisor")) if known else []
    if volume and not text(reference, "containerName"):
        return [required(f"{field}.containerName"), *errors]
    if not resource:
        return [required(f"{field}.resource")]
    return errors if known else [unsupported(f"{field}.resource", resource, ENV_RESOURCES)]


_DIVISORS = {
    "cpu": ("1m", "1"),
    "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}


def _divisor(field: str, word: str, amount: Any) -> list[FieldError]:
    resource = word.partition(".")[2]
    parsed = parse(amount) if amount is not None else None
    if parsed is None or not parsed.nanos:
        return []
    kind = "cpu" if resource == "cpu" else "memory"
    if str(amount) in _DIVISORS[kind]:
        return []
    if kind == "cpu":
        return [invalid(field, word, "only divisor's values 1m and 1 are supported with the cpu resource")]
    told = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(resource, "hugepages")
    return [
        invalid(
            field,
            word,
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the "
            f"{told} resource",
        )
    ]


def _key_reference(field: str, reference: Object) -> list[FieldError]:
    key = text(reference, "key")
    errors = check_names(f"{field}.name", text(reference, "name"), names.dns1123_subdomain)
    if not key:
        return [*errors, required(f"{field}.key")]
    return errors + check_names(f"{field}.key", key, names.config_map_key)


def _file_reference(field: str, reference: Object, files: frozenset[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    key, volume, path = text(reference, "key"), text(reference, "volumeName"), text(reference, "path")
    if not key:
        errors.append(required(f"{field}.key"))
    else:
        errors += [invalid(f"{field}.key", key, message) for message in env_name(key)]
    if not volume:
        errors.append(required(f"{field}.volumeName"))
    elif volume not in files:
        errors.append(missing(f"{field}.volumeName", volume))
    if not path:
        errors.append(required(f"{field}.path"))
    else:
        errors += local_path(f"{field}.path", path)
    return errors


def local_path(field: str, path: str) -> list[FieldError]:
    """A path within a volume: relative, and not upwards."""
    errors = []
    if path.startswith("/"):
        errors.append(invalid(field, path, "must be a relative path"))
    return errors + no_upward_steps(field, path)


def no_upward_steps(field: str, path: str) -> list[FieldError]:
    """A path without `..`."""
    return [invalid(field, path, "must not contain '..'")] if ".." in path.split("/") else []


def local_file_path(field: str, path: str) -> list[FieldError]:
    """A file to be written within a volume."""
    errors = local_path(field, path)
    if path.startswith("..") and not path.startswith("../"):
        errors.append(invalid(field, path, "must not start with '..'"))
    return errors


def _beginning(name: str) -> list[str]:
    """Upstream holds these names against the rule for generateName: a dash may be last."""
    return names.dns1123_subdomain(name[:-2] + "a" if len(name) > 1 and name.endswith("-") else name)


def environment_from(field: str, sources: list[Object]) -> list[FieldError]:
    """`envFrom` of a container."""
    errors: list[FieldError] = []
    for index, source in enumerate(sources):
        prefix = text(source, "prefix")
        if prefix:
            errors += [invalid(f"{field}[{index}].prefix", prefix, message) for message in env_name(prefix)]
        count = 0
        for key in ("configMapRef", "secretRef"):
            if isinstance(source.get(key), dict):
                count += 1
                name, at = text(sub(source, key), "name"), f"{field}[{index}].{key}.name"
                errors += check_names(at, name, _beginning) if name else [required(at)]
        if count == 0:
            errors.append(invalid(field, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(invalid(field, "", "may not have more than one field specified at a time"))
    return errors


def volume_items(field: str, entries: list[Object], *, within: str) -> list[FieldError]:
    """`items` of ConfigMap and Secret volumes."""
    errors: list[FieldError] = []
    for index, entry in enumerate(entries):
        at = f"{field}.{within}[{index}]"
        if not text(entry, "key"):
            errors.append(required(f"{at}.key"))
        if not text(entry, "path"):
            errors.append(required(f"{at}.path"))
        errors += local_file_path(f"{at}.path", text(entry, "path"))
        mode = entry.get("mode")
        if isinstance(mode, int) and not 0 <= mode <= 0o777:
            errors.append(invalid(f"{at}.mode", mode, FILE_MODE))
    return errors


FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
