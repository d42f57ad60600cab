"""The spec of a pod, alone or in a template.

Source: pkg/apis/core/validation/validation.go (ValidatePodSpec, ValidatePodTemplateSpec).
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from controlplane.apiserver.registry.objects import flag, integer, items, strings, sub, text, values
from controlplane.apiserver.registry.validation import containers as container_rules
from controlplane.apiserver.registry.validation.claims import claim_spec
from controlplane.apiserver.registry.validation.operating_system import host_process, operating_system
from controlplane.apiserver.registry.validation.parts import (
    annotation_map,
    check_address,
    check_names,
    dictionary,
    label_map,
    qualified_key,
    repeated,
    unsupported,
)
from controlplane.apiserver.registry.validation.pod_resources import pod_resources
from controlplane.apiserver.registry.validation.profiles import (
    agreement,
    app_armor_annotations,
    seccomp_annotations,
    toleration_annotations,
)
from controlplane.apiserver.registry.validation.resources import container_resources
from controlplane.apiserver.registry.validation.scheduling import affinity, scheduling_gates, spread, tolerations
from controlplane.apiserver.registry.validation.security import (
    host_namespaces,
    host_users,
    pod_security,
)
from controlplane.apiserver.registry.validation.volumes import volumes
from machinery.api import names
from machinery.api.fielderror import FieldError, forbidden, invalid, required
from machinery.api.meta import Object

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")


_REMEMBERED = 8192
_sound: set[bytes] = set()  # digests of specs with which nothing is wrong


def pod_spec(at: str, spec: Object) -> list[FieldError]:
    """The spec of a pod.

    Most writes of pods bring a spec that was looked at before: patches of metadata and status, pods of one template.
    """
    try:
        digest = hashlib.blake2b(orjson.dumps([at == "spec", spec]), digest_size=16).digest()
    except TypeError:  # integers beyond 64 bits
        return _pod_spec(at, spec)
    if digest in _sound:
        return []
    errors = _pod_spec(at, spec)
    if not errors:
        if len(_sound) >= _REMEMBERED:
            _sound.clear()
        _sound.add(digest)
    return errors


def _pod_spec(at: str, spec: Object) -> list[FieldError]:
    known, errors = volumes(f"{at}.volumes", items(spec, "volumes"), claim_spec)
    claims = frozenset(text(c, "name") for c in items(spec, "resourceClaims"))
    errors += _resource_claims(f"{at}.resourceClaims", items(spec, "resourceClaims"))
    around = container_rules.Surroundings(
        known,
        claims,
        integer(spec, "terminationGracePeriodSeconds"),
        text(spec, "restartPolicy"),
        spec.get("hostUsers") is not False,
        text(spec, "os", "name"),
    )
    ordinary = items(spec, "containers")
    errors += container_rules.containers(f"{at}.containers", ordinary, around, set())
    errors += container_rules.init_containers(
        f"{at}.initContainers", items(spec, "initContainers"), ordinary, around, set()
    )
    errors += container_rules.ephemeral_containers(
        f"{at}.ephemeralContainers", items(spec, "ephemeralContainers"), spec, around
    )
    errors += pod_resources(f"{at}.resources", spec, claims)
    errors += host_namespaces(at, spec)
    errors += _word(f"{at}.restartPolicy", text(spec, "restartPolicy"), RESTART_POLICIES)
    errors += _word(f"{at}.dnsPolicy", text(spec, "dnsPolicy"), DNS_POLICIES)
    errors += label_map(f"{at}.nodeSelector", strings(spec, "nodeSelector"))
    errors += pod_security(at, spec)
    errors += affinity(f"{at}.affinity", dictionary(spec, "affinity"))
    errors += _dns_config(f"{at}.dnsConfig", dictionary(spec, "dnsConfig"), text(spec, "dnsPolicy"))
    for index, gate in enumerate(items(spec, "readinessGates")):
        errors += qualified_key(f"{at}.readinessGates[{index}].conditionType", text(gate, "conditionType"))
    errors += scheduling_gates(f"{at}.schedulingGates", items(spec, "schedulingGates"))
    errors += spread(f"{at}.topologySpreadConstraints", items(spec, "topologySpreadConstraints"))
    errors += host_process(at, spec) + host_users(at, spec)
    errors += _names(at, spec)
    errors += tolerations(f"{at}.tolerations", items(spec, "tolerations"))
    errors += _host_aliases(f"{at}.hostAliases", items(spec, "hostAliases"))
    return errors + _class_names(at, spec) + operating_system(at, spec)


def _word(at: str, value: str, allowed: tuple[str, ...]) -> list[FieldError]:
    if not value:
        return [required(at)]
    return [] if value in allowed else [unsupported(at, value, allowed)]


def _names(at: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := text(spec, "serviceAccountName"):
        errors += check_names(f"{at}.serviceAccountName", name, names.dns1123_subdomain)
    if name := text(spec, "nodeName"):
        errors += check_names(f"{at}.nodeName", name, names.dns1123_subdomain)
    seconds = integer(spec, "activeDeadlineSeconds")
    if seconds is not None and not 1 <= seconds <= 2**31 - 1:
        errors.append(invalid(f"{at}.activeDeadlineSeconds", seconds, names.range_error(1, 2**31 - 1)))
    override = spec.get("hostnameOverride")
    if isinstance(override, str):
        errors += check_names(f"{at}.hostnameOverride", override, names.dns1123_subdomain)
        if len(override) > 64:
            errors.append(invalid(f"{at}.hostnameOverride", override, names.max_length_error(64)))
        if flag(spec, "hostNetwork"):
            errors.append(forbidden(f"{at}.hostnameOverride", "may not be specified when hostNetwork is true"))
        if flag(spec, "setHostnameAsFQDN"):
            errors.append(forbidden(f"{at}.hostnameOverride", "may not be specified when setHostnameAsFQDN is true"))
    for key in ("hostname", "subdomain"):
        if name := text(spec, key):
            errors += check_names(f"{at}.{key}", name, names.dns1123_label)
    return errors


def _class_names(at: str, spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if name := text(spec, "priorityClassName"):
        errors += check_names(f"{at}.priorityClassName", name, names.dns1123_subdomain)
    runtime = spec.get("runtimeClassName")
    if isinstance(runtime, str):
        errors += check_names(f"{at}.runtimeClassName", runtime, names.dns1123_subdomain)
    policy = spec.get("preemptionPolicy")
    if isinstance(policy, str) and policy not in ("PreemptLowerPriority", "Never"):
        errors += (
            [required(f"{at}.preemptionPolicy")]
            if not policy
            else [unsupported(f"{at}.preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))]
        )
    return errors + container_resources(f"{at}.overhead", {"limits": sub(spec, "overhead")}, frozenset())


def _resource_claims(at: str, claims: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        where = f"{at}[{index}]"
        name = text(claim, "name")
        if not name:
            errors.append(required(f"{where}.name"))
        elif name in seen:
            errors.append(repeated(f"{where}.name", name))
        else:
            errors += check_names(f"{where}.name", name, names.dns1123_label)
            seen.add(name)
        sources = [k for k in ("resourceClaimName", "resourceClaimTemplateName") if isinstance(claim.get(k), str)]
        if len(sources) > 1:
            detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid(where, _shown_claim(claim), detail))
        elif not sources:
            detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid(where, _shown_claim(claim), detail))
        for key in sources:
            errors += check_names(f"{where}.{key}", str(claim[key]), names.dns1123_subdomain)
    return errors


def _shown_claim(claim: Object) -> Object:
    return {
        "Name": text(claim, "name"),
        "ResourceClaimName": claim.get("resourceClaimName"),
        "ResourceClaimTemplateName": claim.get("resourceClaimTemplateName"),
    }


def _dns_config(at: str, config: Object | None, policy: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if policy == "None":
        if config is None:
            return [required(at, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not values(config, "nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{at}.nameservers", detail)]
    if config is None:
        return []
    servers = [v for v in values(config, "nameservers") if isinstance(v, str)]
    if len(servers) > 3:
        errors.append(invalid(f"{at}.nameservers", servers, "must not have more than 3 nameservers"))
    for index, server in enumerate(servers):
        errors += check_address(f"{at}.nameservers[{index}]", server)
    searches = [v for v in values(config, "searches") if isinstance(v, str)]
    if len(searches) > 32:
        errors.append(invalid(f"{at}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        detail = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid(f"{at}.searches", searches, detail))
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            errors += check_names(f"{at}.searches[{index}]", name, names.dns1123_subdomain_with_underscore)
    for index, option in enumerate(items(config, "options")):
        if not text(option, "name"):
            errors.append(required(f"{at}.options[{index}]", "must not be empty"))
    return errors


def _host_aliases(at: str, aliases: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, alias in enumerate(aliases):
        errors += check_address(f"{at}[{index}].ip", text(alias, "ip"))
        for position, name in enumerate(values(alias, "hostnames")):
            if isinstance(name, str):
                errors += check_names(f"{at}[{index}].hostnames[{position}]", name, names.dns1123_subdomain)
    return errors


def pod_annotations(at: str, holder: Object) -> list[FieldError]:
    """Annotations that mean something for pods; `holder` has metadata and spec."""
    found, spec = strings(holder, "metadata", "annotations"), sub(holder, "spec")
    errors: list[FieldError] = []
    mirror = "kubernetes.io/config.mirror"
    if mirror in found and not text(spec, "nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid(f"{at}[{mirror}]", found[mirror], detail))
    errors += toleration_annotations(at, found)
    cost = "controller.kubernetes.io/pod-deletion-cost"
    if cost in found and not _is_int32(found[cost]):
        errors.append(invalid(f"{at}[{cost}]", found[cost], "must be a 32bit integer"))
    return errors + seccomp_annotations(at, found) + app_armor_annotations(at, holder)


def _is_int32(value: str) -> bool:
    digits = value.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) < 12
    return plain and (digits == "0" or not digits.startswith("0")) and value != "-0" and -(2**31) <= int(value) < 2**31


def template(at: str, found: Any) -> list[FieldError]:
    """A pod template."""
    holder = found if isinstance(found, dict) else {}
    errors = label_map(f"{at}.labels", strings(holder, "metadata", "labels"))
    errors += annotation_map(f"{at}.annotations", strings(holder, "metadata", "annotations"))
    errors += pod_annotations(f"{at}.annotations", holder)
    errors += pod_spec(f"{at}.spec", sub(holder, "spec")) + agreement(f"{at}.spec", holder)
    if items(holder, "spec", "ephemeralContainers"):
        errors.append(forbidden(f"{at}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return errors
