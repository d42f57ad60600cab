"""Volumes of pods.

Source: pkg/apis/core/validation/validation.go (ValidateVolumes, validateVolumeSource).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from controlplane.apiserver.registry.objects import items, strings, sub, text
from controlplane.apiserver.registry.validation.env import local_path, volume_items
from controlplane.apiserver.registry.validation.parts import (
    annotation_map,
    check_names,
    dictionary,
    label_map,
    repeated,
    unsupported,
)
from controlplane.apiserver.registry.validation.projections import MORE_THAN_ONE, downward_file, mode, projected
from controlplane.apiserver.registry.validation.resources import not_negative_amount
from controlplane.apiserver.registry.validation.sources import (
    ISCSI_TOO_LONG,
    SHARED_SOURCES,
    csi_driver_name,
    long_iscsi,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required, show
from machinery.api.meta import Object

ClaimRule = Callable[[Object, str], list[FieldError]]
"""Validates the spec of a PersistentVolumeClaim: (spec, field) → errors."""


def volumes(at: str, found: list[Object], claim_spec: ClaimRule) -> tuple[Mapping[str, Object], list[FieldError]]:
    """The volumes of a pod by name, and what is wrong with them (but for the names of their claims)."""
    errors: list[FieldError] = []
    known: dict[str, Object] = {}
    for index, volume in enumerate(found):
        where = f"{at}[{index}]"
        own = _source(where, volume, claim_spec)
        name = text(volume, "name")
        if not name:
            own.append(required(f"{where}.name"))
        else:
            own += check_names(f"{where}.name", name, names.dns1123_label)
        if name in known:
            own.append(repeated(f"{where}.name", name))
        if not own:
            known[name] = volume
        else:
            errors += own
    return known, errors


_Rule = Callable[[str, Object], list[FieldError]]


def _empty_dir(at: str, source: Object) -> list[FieldError]:
    limit = source.get("sizeLimit")
    if limit is not None and not_negative_amount(at, limit):
        return [forbidden(f"{at}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _git_repo(at: str, source: Object) -> list[FieldError]:
    errors = [] if text(source, "repository") else [required(f"{at}.repository")]
    return errors + local_path(f"{at}.directory", text(source, "directory"))


def _secret(at: str, source: Object) -> list[FieldError]:
    errors = [] if text(source, "secretName") else [required(f"{at}.secretName")]
    return errors + mode(at, source) + volume_items(f"{at}", items(source, "items"), within="items")


def _config_map(at: str, source: Object) -> list[FieldError]:
    errors = [] if text(source, "name") else [required(f"{at}.name")]
    return errors + mode(at, source) + volume_items(f"{at}", items(source, "items"), within="items")


def _claim(at: str, source: Object) -> list[FieldError]:
    return [] if text(source, "claimName") else [required(f"{at}.claimName")]


def _downward(at: str, source: Object) -> list[FieldError]:
    errors = mode(at, source)
    for file in items(source, "items"):
        errors += downward_file(at, file)
    return errors


def _csi(at: str, source: Object) -> list[FieldError]:
    errors = csi_driver_name(f"{at}.driver", text(source, "driver"))
    if (secret := dictionary(source, "nodePublishSecretRef")) is not None:
        name = text(secret, "name")
        if not name:
            errors.append(required(f"{at}.nodePublishSecretRef.name"))
        else:
            errors += check_names(f"{at}.name", name, names.dns1123_subdomain)
    return errors


def _image(at: str, source: Object) -> list[FieldError]:
    reference = text(source, "reference")
    errors: list[FieldError] = []
    if not reference:
        if at.startswith("spec.volumes["):  # what makes pods of a template may fill it in
            errors.append(required(f"{at}.reference"))
    elif reference != reference.strip():
        errors.append(invalid(f"{at}.reference", reference, "must not have leading or trailing whitespace"))
    policy = text(source, "pullPolicy")
    if policy not in ("Always", "IfNotPresent", "Never"):
        errors.append(unsupported(f"{at}.pullPolicy", policy, ("Always", "IfNotPresent", "Never")))
    return errors


_SOURCES: dict[str, _Rule] = {
    "emptyDir": _empty_dir,
    "hostPath": SHARED_SOURCES["hostPath"],
    "gitRepo": _git_repo,
    "gcePersistentDisk": SHARED_SOURCES["gcePersistentDisk"],
    "awsElasticBlockStore": SHARED_SOURCES["awsElasticBlockStore"],
    "secret": _secret,
    "nfs": SHARED_SOURCES["nfs"],
    "iscsi": SHARED_SOURCES["iscsi"],
    "glusterfs": SHARED_SOURCES["glusterfs"],
    "flocker": SHARED_SOURCES["flocker"],
    "persistentVolumeClaim": _claim,
    "rbd": SHARED_SOURCES["rbd"],
    "cinder": SHARED_SOURCES["cinder"],
    "cephfs": SHARED_SOURCES["cephfs"],
    "quobyte": SHARED_SOURCES["quobyte"],
    "downwardAPI": _downward,
    "fc": SHARED_SOURCES["fc"],
    "flexVolume": SHARED_SOURCES["flexVolume"],
    "configMap": _config_map,
    "azureFile": SHARED_SOURCES["azureFile"],
    "vsphereVolume": SHARED_SOURCES["vsphereVolume"],
    "photonPersistentDisk": SHARED_SOURCES["photonPersistentDisk"],
    "portworxVolume": SHARED_SOURCES["portworxVolume"],
    "azureDisk": SHARED_SOURCES["azureDisk"],
    "storageos": SHARED_SOURCES["storageos"],
    "projected": projected,
    "scaleIO": SHARED_SOURCES["scaleIO"],
    "csi": _csi,
}
_TOLD_AS: Final = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Sources that have another name where they are one too many."""


def _source(at: str, volume: Object, claim_spec: ClaimRule) -> list[FieldError]:
    errors: list[FieldError] = []
    count = 0
    rules: dict[str, _Rule] = {**_SOURCES, "ephemeral": partial(_ephemeral, claim_spec), "image": _image}
    for kind, rule in rules.items():
        source = dictionary(volume, kind)
        if source is None:
            continue
        if count:
            errors.append(forbidden(f"{at}.{_TOLD_AS.get(kind, kind)}", MORE_THAN_ONE))
        else:
            count += 1
            errors += rule(f"{at}.{kind}", source)
        if kind == "iscsi" and long_iscsi(text(volume, "name"), source):
            errors.append(invalid(f"{at}.name", text(volume, "name"), ISCSI_TOO_LONG))
    if not count:
        errors.append(required(at, "must specify a volume type"))
    return errors


def _ephemeral(claim_spec: ClaimRule, at: str, source: Object) -> list[FieldError]:
    template = dictionary(source, "volumeClaimTemplate")
    if template is None:
        return [required(f"{at}.volumeClaimTemplate")]
    where = f"{at}.volumeClaimTemplate"
    metadata = sub(template, "metadata")
    errors = annotation_map(f"{where}.metadata.annotations", strings(metadata, "annotations"))
    errors += label_map(f"{where}.metadata.labels", strings(metadata, "labels"))
    errors += [forbidden(f"{where}.metadata.{told}", "cannot be set") for key, told in _UNUSED if metadata.get(key)]
    return errors + claim_spec(sub(template, "spec"), f"{where}.spec")


_UNUSED: Final = (
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
    ("managedFields", "managedFields"),
)
"""Metadata that mean nothing in a template of claims, and what upstream calls them."""


def claim_names(at: str, pod: str, found: list[Object]) -> list[FieldError]:
    """Claims that are made for ephemeral volumes must have a name, and are not for other volumes."""
    errors: list[FieldError] = []
    made = {f"{pod}-{text(v, 'name')}" for v in found if isinstance(v.get("ephemeral"), dict)}
    for index, volume in enumerate(found):
        name, where = text(volume, "name"), f"{at}[{index}]"
        if isinstance(volume.get("ephemeral"), dict) and name:
            claim = f"{pod}-{name}"
            wrong = names.dns1123_subdomain(claim)
            errors += [invalid(f"{where}.name", name, f"PVC name {show(claim)}: {message}") for message in wrong]
        if (claim := text(volume, "persistentVolumeClaim", "claimName")) in made:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid(f"{where}.persistentVolumeClaim.claimName", claim, detail))
    return errors
