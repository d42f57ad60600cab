"""AppArmor profiles of containers, which older clients and nodes write as annotations.

Source: pkg/registry/core/pod/strategy.go (applyAppArmorVersionSkew), KEP-24.
"""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.podspec import all_containers
from controlplane.apiserver.registry.objects import child, strings, sub, text
from machinery.api.meta import Object

ANNOTATION_PREFIX = "container.apparmor.security.beta.kubernetes.io/"
_WORDS = {"RuntimeDefault": "runtime/default", "Unconfined": "unconfined"}


def annotation_of(profile: Object) -> str:
    """A profile as the annotation says it; "" for what it can't say."""
    kind = text(profile, "type")
    if kind == "Localhost" and text(profile, "localhostProfile"):
        return "localhost/" + text(profile, "localhostProfile")
    return _WORDS.get(kind, "")


def profile_of(annotation: str) -> Object | None:
    """The profile an annotation means; None for none."""
    for kind, word in _WORDS.items():
        if annotation == word:
            return {"type": kind}
    name = annotation.removeprefix("localhost/")
    if name != annotation and name and name == name.strip() and len(name) <= 4095:
        return {"type": "Localhost", "localhostProfile": name}
    return None


def apply_app_armor(pod: Object) -> list[str]:
    """Write the profile that an annotation gives a container as its field, too, in place; warnings of that."""
    spec = sub(pod, "spec")
    if text(spec, "os", "name") == "windows":
        return []
    of_pod = sub(spec, "securityContext", "appArmorProfile")
    annotations = strings(pod, "metadata", "annotations")
    found: list[str] = []
    for container in all_containers(spec):
        key = ANNOTATION_PREFIX + text(container, "name")
        if key not in annotations or sub(container, "securityContext", "appArmorProfile"):
            continue
        profile = profile_of(annotations[key])
        if profile is not None and profile == of_pod:
            continue
        if profile is not None:
            child(container, "securityContext")["appArmorProfile"] = profile
        found.append(f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
    return found
