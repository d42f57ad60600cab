"""Validation of APIServices.

Source: kube-aggregator/pkg/apis/apiregistration/validation.
"""

from __future__ import annotations

import base64
import binascii

from controlplane.apiserver.registry.objects import flag, number, sub, text
from machinery.api import meta, names
from machinery.api.fielderror import FieldError, invalid, required, show
from machinery.api.meta import Object


def api_service(service: Object) -> list[FieldError]:
    """A new or changed APIService."""
    spec = sub(service, "spec")
    group, version = text(spec, "group"), text(spec, "version")
    errors: list[FieldError] = []
    wanted = f"{version}.{group}"
    if meta.name_of(service) != wanted:
        told = f'must be `spec.version+"."+spec.group`: {show(wanted)}'
        errors.append(invalid("metadata.name", meta.name_of(service), told))
    if not group and version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if group:
        errors += [invalid("spec.group", group, told) for told in names.dns1123_subdomain(group)]
    errors += [invalid("spec.version", version, told) for told in names.dns1035_label(version)]
    for key, limit in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = number(spec, key)
        if not 0 < value <= limit:
            errors.append(invalid(f"spec.{key}", value, f"must be positive and less than {limit}"))
    bundle, insecure = text(spec, "caBundle"), flag(spec, "insecureSkipTLSVerify")
    if not isinstance(spec.get("service"), dict):
        if bundle:
            size = f"{_size(bundle)} bytes"
            errors.append(invalid("spec.caBundle", size, "local APIServices may not have a caBundle"))
        if insecure:
            told = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid("spec.insecureSkipTLSVerify", insecure, told))
        return errors
    reference = sub(spec, "service")
    errors += [required(f"spec.service.{key}") for key in ("namespace", "name") if not text(reference, key)]
    port = number(reference, "port")
    errors += [invalid("spec.service.port", port, f"port is not valid: {told}") for told in names.port_number(port)]
    if insecure and bundle:
        errors.append(invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors


def _size(bundle: str) -> int:
    try:
        return len(base64.b64decode(bundle))
    except (ValueError, binascii.Error):
        return len(bundle)
