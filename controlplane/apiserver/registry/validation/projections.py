"""Files that volumes are made of: what pods know of themselves, and sources projected into one volume.

Source: pkg/apis/core/validation/validation.go (validateDownwardAPIVolumeFile, validateProjectionSources).
"""

from __future__ import annotations

from collections.abc import Callable

from controlplane.apiserver.registry.objects import items, number, sub, text
from controlplane.apiserver.registry.validation.env import (
    FILE_MODE,
    VOLUME_FIELDS,
    field_reference,
    local_file_path,
    resource_reference,
    volume_items,
)
from controlplane.apiserver.registry.validation.parts import dictionary, label_selector, unsupported
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

MORE_THAN_ONE = "may not specify more than 1 volume type"
_Rule = Callable[[str, Object], list[FieldError]]


def mode(at: str, source: Object) -> list[FieldError]:
    """`defaultMode` of a volume of files."""
    found = number(source, "defaultMode")
    return [] if 0 <= found <= 0o777 else [invalid(f"{at}.defaultMode", found, FILE_MODE)]


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


def projected(at: str, source: Object) -> list[FieldError]:
    """A volume of several sources."""
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
            errors.append(forbidden(where, f"{MORE_THAN_ONE} per source"))
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
