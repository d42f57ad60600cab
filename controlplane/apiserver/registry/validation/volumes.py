"""Volumes of pods.

Source: pkg/apis/core/validation/validation.go (ValidateVolumes, validateVolumeSource).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from controlplane.apiserver.registry.objects import items, number, sub, text
from controlplane.apiserver.registry.validation.env import (
    FILE_MODE,
    VOLUME_FIELDS,
    field_reference,
    local_file_path,
    resource_reference,
    volume_items,
)
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_selector,
    repeated,
    unsupported,
)
from controlplane.apiserver.registry.validation.resources import not_negative_amount
from controlplane.apiserver.registry.validation.sources import SHARED_SOURCES, csi_driver_name
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

ClaimRule = Callable[[Object, str], list[FieldError]]
"""Validates the spec of a PersistentVolumeClaim: (spec, field) → errors."""

MORE_THAN_ONE = "may not specify more than 1 volume type"


def volumes(at: str, found: list[Object], claim_spec: ClaimRule) -> tuple[Mapping[str, Object], list[FieldError]]:
    """The volumes of a pod by name, and what is wrong with them."""
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
    directory = text(source, "directory")
    if directory.startswith("/"):
        errors.append(invalid(f"{at}.directory", directory, "must be a relative path"))
    if ".." in directory.split("/"):
        errors.append(invalid(f"{at}.directory", directory, "must not contain '..'"))
    return errors


def mode(at: str, source: Object) -> list[FieldError]:
    """`defaultMode` of a volume of files."""
    found = number(source, "defaultMode")
    return [] if 0 <= found <= 0o777 else [invalid(f"{at}.defaultMode", found, FILE_MODE)]


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


def downward_file(at: str, file: Object) -> list[FieldError]:
    """A file with something about the pod itself."""
    errors: list[FieldError] = []
    path = text(file, "path")
    if not path:
        errors.append(required(f"{at}.path"))
    errors += local_file_path(f"{at}.path", path)
    field, resource = dictionary(file, "fieldRef"), dictionary(file, "resourceFieldRef")
    if field is not None:
        errors += field_reference(f"{at}.fieldRef", field, VOLUME_FIELDS)
        if resource is not None:
            errors.append(invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
    elif resource is not None:
        errors += resource_reference(f"{at}.resourceFieldRef", resource, volume=True)
    else:
        errors.append(required(at, "one of fieldRef and resourceFieldRef is required"))
    found = file.get("mode")
    if isinstance(found, int) and not 0 <= found <= 0o777:
        errors.append(invalid(f"{at}.mode", found, FILE_MODE))
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
        errors.append(required(f"{at}.reference"))
    elif reference != reference.strip():
        errors.append(invalid(f"{at}.reference", reference, "must not have leading or trailing whitespace"))
    policy = text(source, "pullPolicy")
    if policy not in ("Always", "IfNotPresent", "Never"):
        errors.append(unsupported(f"{at}.pullPolicy", policy, ("Always", "IfNotPresent", "Never")))
    return errors


def _projected(at: str, source: Object) -> list[FieldError]:
    errors = mode(at, source)
    paths: set[str] = set()
    for index, projection in enumerate(items(source, "sources")):
        where = f"{at}.sources[{index}]"
        kinds = [k for k in _PROJECTIONS if isinstance(projection.get(k), dict)]
        for kind in kinds:
            own = sub(projection, kind)
            errors += _PROJECTIONS[kind](f"{where}.{kind}", own)
            told = text(own, "name") if kind in ("secret", "configMap") else None
            errors += _conflicts(at, _paths(own, kind), paths, told)
        if len(kinds) > 1:
            errors.append(forbidden(where, MORE_THAN_ONE))
    return errors


def _paths(projection: Object, kind: str) -> list[str]:
    if kind in ("secret", "configMap", "downwardAPI"):
        return [text(i, "path") for i in items(projection, "items")]
    if kind == "podCertificate":
        return [text(projection, k) for k in ("credentialBundlePath", "keyPath", "certificateChainPath")]
    return [text(projection, "path")] if kind == "clusterTrustBundle" else []


def _conflicts(at: str, added: list[str], paths: set[str], told: str | None) -> list[FieldError]:
    """Paths that another source has too: the message shows them, or the name of the source in their place."""
    errors: list[FieldError] = []
    for path in filter(None, added):
        if path in paths:
            errors.append(invalid(at, path if told is None else told, "conflicting duplicate paths"))
        paths.add(path)
    return errors


def _projected_secret(at: str, projection: Object) -> list[FieldError]:
    errors = [] if text(projection, "name") else [required(f"{at}.name")]
    return errors + volume_items(at, items(projection, "items"), within="items")


def _projected_downward(at: str, projection: Object) -> list[FieldError]:
    return [e for file in items(projection, "items") for e in downward_file(at, file)]


def _token(at: str, projection: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    volume = at.rpartition(".sources[")[0]  # what is wrong with the path is told of the volume
    seconds = number(projection, "expirationSeconds")
    if seconds < 600:
        detail = "may not specify a duration less than 10 minutes"
        errors.append(invalid(f"{at}.expirationSeconds", seconds, detail))
    elif seconds > 1 << 32:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid(f"{at}.expirationSeconds", seconds, detail))
    path = text(projection, "path")
    if not path:
        return [*errors, required(f"{volume}.path")]
    return errors + local_file_path(f"{volume}.path", path)


def _trust_bundle(at: str, projection: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    name, signer = projection.get("name"), projection.get("signerName")
    if isinstance(name, str) and isinstance(signer, str):
        errors.append(invalid(at, _named(projection), "only one of name and signerName may be used"))
    elif isinstance(name, str):
        if not name:
            errors.append(required(f"{at}.name", "must be a valid object name"))
        else:
            errors += [
                invalid(f"{at}.name", name, f"not a valid clustertrustbundlename: {m}") for m in _bundle_name(name)
            ]
        if projection.get("labelSelector") is not None:
            errors.append(
                invalid(
                    f"{at}.labelSelector",
                    projection["labelSelector"],
                    "labelSelector must be unset if name is specified",
                )
            )
    elif isinstance(signer, str):
        errors += signer_name(f"{at}.signerName", signer)
        errors += label_selector(f"{at}.labelSelector", projection.get("labelSelector"))
    else:
        errors.append(required(at, "either name or signerName must be specified"))
    path = text(projection, "path")
    if not path:
        errors.append(required(f"{at}.path", ""))
    return errors + local_file_path(f"{at}.path", path)


def _named(projection: Object) -> Object:
    return {"Name": projection.get("name"), "SignerName": projection.get("signerName")}


def _bundle_name(name: str) -> list[str]:
    return names.dns1123_subdomain(name.rpartition(":")[2])


def signer_name(at: str, signer: str) -> list[FieldError]:
    """The name of who signs certificates: `domain/path`."""
    if not signer:
        return [required(at)]
    domain, slash, path = signer.partition("/")
    if not slash or not path or "/" in path:
        return [
            invalid(
                at,
                signer,
                'must be a fully qualified domain and path of the form "example.com/signer-name"',
            )
        ]
    errors: list[FieldError] = []
    errors += [invalid(at, domain, f"validating label {domain!r}: {m}") for m in _labels(domain)]
    if domain.count(".") < 1:
        errors.append(invalid(at, domain, "should be a domain with at least two segments separated by dots"))
    errors += [
        invalid(at, path, f"validating label {part!r}: {m}")
        for part in path.split(".")
        for m in names.dns1123_subdomain(part)
    ]
    if len(signer) > 571:
        errors.append(FieldError("FieldValueTooLong", at, "Too long: may not be more than 571 bytes"))
    return errors


def _labels(domain: str) -> list[str]:
    return [message for part in domain.split(".") for message in names.dns1123_label(part)]


_KEY_TYPES = ("ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096")


def _pod_certificate(at: str, projection: Object) -> list[FieldError]:
    errors = signer_name(f"{at}.signerName", text(projection, "signerName"))
    if text(projection, "keyType") not in _KEY_TYPES:
        errors.append(unsupported(f"{at}.keyType", text(projection, "keyType"), _KEY_TYPES))
    seconds = number(projection, "maxExpirationSeconds")
    if not 3600 <= seconds <= 91 * 24 * 3600:
        errors.append(invalid(f"{at}.maxExpirationSeconds", seconds, "must be between 3600 and 7862400"))
    paths = [k for k in ("credentialBundlePath", "keyPath", "certificateChainPath") if text(projection, k)]
    if not paths:
        errors.append(required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
    for key in paths:
        errors += local_file_path(f"{at}.{key}", text(projection, key))
    return errors


_PROJECTIONS: dict[str, _Rule] = {
    "secret": _projected_secret,
    "configMap": _projected_secret,
    "downwardAPI": _projected_downward,
    "serviceAccountToken": _token,
    "clusterTrustBundle": _trust_bundle,
    "podCertificate": _pod_certificate,
}

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
    "projected": _projected,
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
    if not count:
        errors.append(required(at, "must specify a volume type"))
    return errors


def _ephemeral(claim_spec: ClaimRule, at: str, source: Object) -> list[FieldError]:
    template = dictionary(source, "volumeClaimTemplate")
    if template is None:
        return [required(f"{at}.volumeClaimTemplate")]
    errors: list[FieldError] = []
    metadata = sub(template, "metadata")
    errors += [
        forbidden(f"{at}.volumeClaimTemplate.metadata.{key}", "cannot be set")
        for key in metadata
        if key not in ("labels", "annotations") and metadata[key]
    ]
    return errors + claim_spec(sub(template, "spec"), f"{at}.volumeClaimTemplate.spec")
