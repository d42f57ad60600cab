"""Annotations that say what pods had no fields for once: profiles of seccomp and AppArmor, tolerations.

Source: pkg/apis/core/validation/validation.go (ValidatePodSpecificAnnotations, validateSeccompAnnotationsAndFields,
validateAppArmorAnnotationsAndFieldsMatchOnCreate).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controlplane.apiserver.registry.objects import items, strings, sub, text
from controlplane.apiserver.registry.pod_apparmor import ANNOTATION_PREFIX, annotation_of
from controlplane.apiserver.registry.validation.env import local_path
from controlplane.apiserver.registry.validation.scheduling import tolerations
from machinery.api.fielderror import FieldError, forbidden, invalid, show
from machinery.api.jsontext import loads, syntax_error
from machinery.api.meta import Object

_TOLERATIONS: Final = "scheduler.alpha.kubernetes.io/tolerations"
_SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
_SECCOMP_WORDS: Final = {
    "Unconfined": ("unconfined",),
    "RuntimeDefault": ("runtime/default", "docker/default"),
}
_LOCALHOST: Final = "localhost/"


def toleration_annotations(field: str, annotations: dict[str, str]) -> list[FieldError]:
    """Tolerations in an annotation: nobody heeds them, but they must be some."""
    written = annotations.get(_TOLERATIONS, "")
    if not written:
        return []
    content = written.encode("utf-8", "surrogatepass")
    if wrong := syntax_error(content):
        return [invalid(field, _TOLERATIONS, wrong)]
    found, _ = loads(content)
    return tolerations(f"{field}.{_TOLERATIONS}", items({"found": found}, "found"))


def seccomp_annotations(field: str, annotations: dict[str, str]) -> list[FieldError]:
    """Annotations that say which seccomp profile a pod or container has must name one that can be."""
    errors: list[FieldError] = []
    for key, profile in sorted(annotations.items()):
        if key != _SECCOMP_POD and not key.startswith(_SECCOMP_CONTAINER):
            continue
        if profile.startswith(_LOCALHOST):
            errors += local_path(f"{field}.{key}", profile.removeprefix(_LOCALHOST))
        elif not any(profile in words for words in _SECCOMP_WORDS.values()):
            errors.append(invalid(f"{field}.{key}", profile, "must be a valid seccomp profile"))
    return errors


def app_armor_annotations(field: str, holder: Object) -> list[FieldError]:
    """Annotations that say which AppArmor profile a container has must name one that can be."""
    errors: list[FieldError] = []
    known = {text(container, "name") for _, container in _containers(sub(holder, "spec"))}
    for key, value in sorted(strings(holder, "metadata", "annotations").items()):
        if not key.startswith(ANNOTATION_PREFIX):
            continue
        at = f"{field}[{key}]"
        name = key.removeprefix(ANNOTATION_PREFIX)
        if name not in known:
            errors.append(invalid(at, name, "container not found"))
        if value not in ("", "runtime/default", "unconfined") and not value.startswith(_LOCALHOST):
            errors.append(invalid(at, value, f"invalid AppArmor profile name: {show(value)}"))
    return errors


def _containers(spec: Object) -> Iterator[tuple[str, Object]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(items(spec, kind)):
            yield f"{kind}[{index}]", container


def agreement(at: str, holder: Object) -> list[FieldError]:
    """Annotations of a new pod or of a template (`at` is its spec) must mean the profiles that its fields name."""
    return _seccomp_agreement(at, holder) + _app_armor_agreement(at, holder)


def _seccomp_agreement(at: str, holder: Object) -> list[FieldError]:
    annotations, spec = strings(holder, "metadata", "annotations"), sub(holder, "spec")
    pairs = [(f"{at}.securityContext", sub(spec, "securityContext"), annotations.get(_SECCOMP_POD))]
    pairs += [
        (
            f"{at}.{where}.securityContext",
            sub(container, "securityContext"),
            annotations.get(_SECCOMP_CONTAINER + text(container, "name")),
        )
        for where, container in _containers(spec)
    ]
    errors: list[FieldError] = []
    for where, context, written in pairs:
        profile = sub(context, "seccompProfile")
        if profile and written is not None:
            errors += _same_seccomp(f"{where}.seccompProfile", profile, written)
    return errors


def _same_seccomp(at: str, profile: Object, written: str) -> list[FieldError]:
    kind = text(profile, "type")
    if kind == "Localhost" and written.startswith(_LOCALHOST):
        if written.removeprefix(_LOCALHOST) != profile.get("localhostProfile"):
            return [forbidden(f"{at}.localhostProfile", "seccomp profile in annotation and field must match")]
        return []
    if kind == "Localhost" or written not in _SECCOMP_WORDS.get(kind, (written,)):
        return [forbidden(f"{at}.type", "seccomp type in annotation and field must match")]
    return []


def _app_armor_agreement(at: str, holder: Object) -> list[FieldError]:
    annotations, spec = strings(holder, "metadata", "annotations"), sub(holder, "spec")
    if text(spec, "os", "name") == "windows":
        return []
    errors: list[FieldError] = []
    of_pod = sub(spec, "securityContext", "appArmorProfile")
    for where, container in _containers(spec):
        own = sub(container, "securityContext", "appArmorProfile") or of_pod
        written = annotations.get(ANNOTATION_PREFIX + text(container, "name"))
        if not own or written is None or written == annotation_of(own):
            continue
        profile = f"{at}.{where}.securityContext.appArmorProfile"
        if text(own, "type") == "Localhost" and written.startswith(_LOCALHOST):
            errors.append(
                forbidden(f"{profile}.localhostProfile", "apparmor profile in annotation and field must match")
            )
        else:
            errors.append(forbidden(f"{profile}.type", "apparmor type in annotation and field must match"))
    return errors
