"""Where the data of PersistentVolumes is.

Source: pkg/apis/core/validation/validation.go (ValidatePersistentVolumeSpec, validate…PersistentVolumeSource).
"""

from __future__ import annotations

from typing import Final

from controlplane.apiserver.registry.objects import sub, text
from controlplane.apiserver.registry.validation.parts import check_names, dictionary
from controlplane.apiserver.registry.validation.sources import (
    SHARED_SOURCES,
    Rule,
    cinder,
    csi_driver_name,
    iscsi,
    needs,
    storage_os,
    upward,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

_SECRETS = ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")


def _csi(at: str, source: Object) -> list[FieldError]:
    errors = csi_driver_name(f"{at}.driver", text(source, "driver"))
    if not text(source, "volumeHandle"):
        errors.append(required(f"{at}.volumeHandle"))
    for key in _SECRETS:
        if (secret := dictionary(source, key)) is None:
            continue
        for part, rule in (("name", names.dns1123_subdomain), ("namespace", names.dns1123_label)):
            where, value = f"{at}.{key}.{part}", text(secret, part)
            errors += check_names(where, value, rule) if value else [required(where)]
    return errors


def _local(at: str, source: Object) -> list[FieldError]:
    path = text(source, "path")
    return upward(f"{at}.path", path) if path else [required(f"{at}.path")]


def _azure_file(at: str, source: Object) -> list[FieldError]:
    errors = needs("secretName", "shareName")(at, source)
    if source.get("secretNamespace") == "":
        errors.append(required(f"{at}.secretNamespace"))
    return errors


def _glusterfs(at: str, source: Object) -> list[FieldError]:
    errors = needs("endpoints", "path")(at, source)
    space = source.get("endpointsNamespace")
    if space == "":
        detail = "if the endpointnamespace is set, it must be a valid namespace name"
        errors.append(invalid(f"{at}.endpointsNamespace", space, detail))
    elif isinstance(space, str):
        errors += check_names(f"{at}.endpointsNamespace", space, names.dns1123_label)
    return errors


def _with_namespace(rule: Rule) -> Rule:
    """A source whose secret may be anywhere."""

    def of_both(at: str, source: Object) -> list[FieldError]:
        errors = rule(at, source)
        secret = dictionary(source, "secretRef")
        if secret is not None and not text(secret, "namespace"):
            errors.append(required(f"{at}.secretRef.namespace"))
        return errors

    return of_both


def _iscsi(at: str, source: Object) -> list[FieldError]:
    errors = iscsi(at, source, hint="")
    secret = dictionary(source, "secretRef")
    if secret is not None and not text(secret, "name"):
        errors.append(required(f"{at}.secretRef.name"))
    return errors


PERSISTENT_SOURCES: Final[dict[str, Rule]] = {
    "hostPath": SHARED_SOURCES["hostPath"],
    "gcePersistentDisk": SHARED_SOURCES["gcePersistentDisk"],
    "awsElasticBlockStore": SHARED_SOURCES["awsElasticBlockStore"],
    "glusterfs": _glusterfs,
    "flocker": SHARED_SOURCES["flocker"],
    "nfs": SHARED_SOURCES["nfs"],
    "rbd": SHARED_SOURCES["rbd"],
    "quobyte": SHARED_SOURCES["quobyte"],
    "cephfs": SHARED_SOURCES["cephfs"],
    "iscsi": _iscsi,
    "cinder": _with_namespace(cinder),
    "fc": SHARED_SOURCES["fc"],
    "flexVolume": SHARED_SOURCES["flexVolume"],
    "azureFile": _azure_file,
    "vsphereVolume": SHARED_SOURCES["vsphereVolume"],
    "photonPersistentDisk": SHARED_SOURCES["photonPersistentDisk"],
    "portworxVolume": SHARED_SOURCES["portworxVolume"],
    "azureDisk": SHARED_SOURCES["azureDisk"],
    "scaleIO": SHARED_SOURCES["scaleIO"],
    "local": _local,
    "storageos": _with_namespace(storage_os),
    "csi": _csi,
}
MORE_THAN_ONE = "may not specify more than 1 volume type"
TOLD_AS: Final = {"cephfs": "cephFS"}
"""Sources that have another name where they are one too many."""


def persistent_source(at: str, spec: Object) -> list[FieldError]:
    """Where the data of a volume is: in one place."""
    errors: list[FieldError] = []
    count = 0
    for kind, rule in PERSISTENT_SOURCES.items():
        source = dictionary(spec, kind)
        if source is None:
            continue
        if count and kind != "flexVolume":
            errors.append(forbidden(f"{at}.{TOLD_AS.get(kind, kind)}", MORE_THAN_ONE))
            continue
        count += 1
        errors += rule(f"{at}.{kind}", source)
        if kind == "local" and not isinstance(sub(spec, "nodeAffinity").get("required"), dict):
            errors.append(required(f"{at}.nodeAffinity", "Local volume requires node affinity"))
    return errors if count else [required(at, "must specify a volume type")]
