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


def apply_app_armor(pod: Object) -> None:
    """Write each container's profile as annotation and as field, whichever is missing, in place."""
    spec = sub(pod, "spec")
    if text(spec, "os", "name") == "windows":
        return
    of_pod = sub(spec, "securityContext", "appArmorProfile")
    annotations = strings(pod, "metadata", "annotations")
    for container in all_containers(spec):
        key = ANNOTATION_PREFIX + text(container, "name")
        own = sub(container, "securityContext", "appArmorProfile")
        if key not in annotations:
            if written := annotation_of(own or of_pod):
                child(child(pod, "metadata"), "annotations")[key] = written
            continue
        profile = profile_of(annotations[key])
        if profile and not own and profile != of_pod:
            child(container, "securityContext")["appArmorProfile"] = profile
