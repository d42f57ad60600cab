"""Webhook configurations, and what policies match as they do.

Source: pkg/apis/admissionregistration/validation/validation.go, k8s.io/apiserver/pkg/util/webhook/validation.go.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from controlplane.apiserver.admission.expressions import WEBHOOK_VARIABLES, Expressions
from controlplane.apiserver.registry.objects import integer, items, sub, text, values
from controlplane.apiserver.registry.validation.expressions import wrong_expression
from controlplane.apiserver.registry.validation.parts import (
    check_names,
    dictionary,
    label_selector,
    repeated,
    unsupported,
)
from machinery.api import names
from machinery.api.fielderror import FieldError, invalid, required, show, too_many
from machinery.api.meta import Object

OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_FORMAT = "desired format: https://host[/path]"


def webhooks(obj: Object, *, mutating: bool) -> list[FieldError]:
    """A webhook configuration."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, hook in enumerate(items(obj, "webhooks")):
        at = f"webhooks[{index}]"
        errors += _webhook(at, hook, mutating=mutating)
        name = text(hook, "name")
        errors += _review_versions(f"{at}.admissionReviewVersions", values(hook, "admissionReviewVersions"))
        if name and name in seen:
            errors.append(repeated(f"{at}.name", name))
        seen.add(name)
    return errors


def _review_versions(at: str, found: list[Any]) -> list[FieldError]:
    versions = [v for v in found if isinstance(v, str)]
    if not versions:
        return [required(at, f"must specify one of {', '.join(_REVIEW_VERSIONS)}")]
    errors: list[FieldError] = []
    known = False
    for index, version in enumerate(versions):
        if version in versions[:index]:
            errors.append(invalid(f"{at}[{index}]", version, "duplicate version"))
            continue
        errors += check_names(f"{at}[{index}]", version, names.dns1035_label)
        known = known or version in _REVIEW_VERSIONS
    if not known:
        errors.append(invalid(at, versions, f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"))
    return errors


def _webhook(at: str, hook: Object, *, mutating: bool) -> list[FieldError]:
    name = text(hook, "name")
    errors = check_names(f"{at}.name", name, names.fully_qualified_name) if name else [required(f"{at}.name")]
    for index, rule in enumerate(items(hook, "rules")):
        errors += rules(f"{at}.rules[{index}]", rule, wildcards=True)
    errors += word(f"{at}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"))
    errors += word(f"{at}.matchPolicy", hook.get("matchPolicy"), ("Equivalent", "Exact"))
    effects = hook.get("sideEffects")
    if not effects:
        errors.append(required(f"{at}.sideEffects", "must specify one of None, NoneOnDryRun"))
    else:
        errors += word(f"{at}.sideEffects", effects, ("None", "NoneOnDryRun"))
    seconds = integer(hook, "timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        errors.append(invalid(f"{at}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds"))
    for key in ("namespaceSelector", "objectSelector"):
        errors += label_selector(f"{at}.{key}", hook.get(key))
    if mutating:
        errors += word(f"{at}.reinvocationPolicy", hook.get("reinvocationPolicy"), ("IfNeeded", "Never"))
    errors += client_config(f"{at}.clientConfig", sub(hook, "clientConfig"))
    return errors + match_conditions(
        f"{at}.matchConditions", items(hook, "matchConditions"), Expressions(names=WEBHOOK_VARIABLES)
    )


def word(at: str, value: Any, allowed: tuple[str, ...]) -> list[FieldError]:
    """One of some words, if it is there."""
    return [unsupported(at, value, allowed)] if isinstance(value, str) and value not in allowed else []


def client_config(at: str, config: Object) -> list[FieldError]:
    """How to reach a webhook."""
    url, service = config.get("url"), dictionary(config, "service")
    if (url is None) == (service is None):
        return [required(at, "exactly one of url or service is required")]
    if service is not None:
        return webhook_service(f"{at}.service", service)
    return url_errors(f"{at}.url", str(url))


def url_errors(at: str, url: str) -> list[FieldError]:
    """The URL of a webhook."""
    try:
        parts = urlsplit(url)
        wrong = _port_error(parts.netloc)
    except ValueError:
        wrong = "missing ']' in host"
    if wrong:
        return [required(at, f"url must be a valid URL: parse {show(url)}: {wrong}; {_FORMAT}")]
    errors: list[FieldError] = []
    if parts.scheme != "https":
        detail = f"'https' is the only allowed URL scheme; {_FORMAT}"
        errors.append(invalid(at, parts.scheme, detail))
    if not parts.netloc:
        errors.append(invalid(at, parts.netloc, f"host must be specified; {_FORMAT}"))
    if parts.username is not None or parts.password is not None:
        user = parts.netloc.rpartition("@")[0]
        errors.append(invalid(at, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid(at, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid(at, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _port_error(netloc: str) -> str:
    """What Go says about the port of an authority; "" if it is one, or none."""
    found = re.search(r":.*", netloc.rpartition("@")[2].rpartition("]")[2])
    if found is None or re.fullmatch(r":[0-9]*", found[0]):
        return ""
    return f"invalid port {show(found[0])} after host"


def webhook_service(at: str, service: Object) -> list[FieldError]:
    """A Service that a webhook is behind."""
    errors: list[FieldError] = []
    for key in ("name", "namespace"):
        if not text(service, key):
            detail = f"service {key} is required"
            errors.append(required(f"{at}.{key}", detail))
    port = integer(service, "port")
    if port is not None:
        errors += [invalid(f"{at}.port", port, f"port is not valid: {message}") for message in names.port_number(port)]
    path = service.get("path")
    return errors + (_service_path(f"{at}.path", path) if isinstance(path, str) else [])


def _service_path(at: str, path: str) -> list[FieldError]:
    if not path or path == "/":
        return []
    if path == "//":
        return [invalid(at, path, "segment[0] may not be empty")]
    errors: list[FieldError] = []
    if not path.startswith("/"):
        errors.append(invalid(at, path, "must start with a '/'"))
    tail = path[1:].removesuffix("/")
    for index, part in enumerate(tail.split("/")):
        if not part:
            errors.append(invalid(at, path, f"segment[{index}] may not be empty"))
            continue
        errors += [invalid(at, path, f"segment[{index}]: {message}") for message in names.dns1123_subdomain(part)]
    return errors


def rules(at: str, rule: Object, *, wildcards: bool) -> list[FieldError]:
    """Which requests a webhook or policy is about."""
    operations = [v for v in values(rule, "operations") if isinstance(v, str)]
    groups = [v for v in values(rule, "apiGroups") if isinstance(v, str)]
    versions = [v for v in values(rule, "apiVersions") if isinstance(v, str)]
    resources = [v for v in values(rule, "resources") if isinstance(v, str)]
    errors: list[FieldError] = []
    if not operations:
        errors.append(required(f"{at}.operations"))
    if len(operations) > 1 and "*" in operations:
        errors.append(invalid(f"{at}.operations", operations, "if '*' is present, must not specify other operations"))
    errors += [
        unsupported(f"{at}.operations[{i}]", o, OPERATIONS) for i, o in enumerate(operations) if o not in OPERATIONS
    ]
    if not groups:
        errors.append(required(f"{at}.apiGroups"))
    if len(groups) > 1 and "*" in groups:
        errors.append(invalid(f"{at}.apiGroups", groups, "if '*' is present, must not specify other API groups"))
    if not versions:
        errors.append(required(f"{at}.apiVersions"))
    if len(versions) > 1 and "*" in versions:
        errors.append(invalid(f"{at}.apiVersions", versions, "if '*' is present, must not specify other API versions"))
    errors += [required(f"{at}.apiVersions[{i}]") for i, v in enumerate(versions) if not v]
    errors += _resources(f"{at}.resources", resources)
    return errors + word(f"{at}.scope", rule.get("scope"), SCOPES)


def _resources(at: str, resources: list[str]) -> list[FieldError]:
    if not resources:
        return [required(at)]
    errors: list[FieldError] = []
    # What is seen with which subresources, to notice entries that others cover.
    with_all: set[str] = set()
    of_all: set[str] = set()
    for index, entry in enumerate(resources):
        if not entry:
            errors.append(required(f"{at}[{index}]"))
        resource, slash, subresource = entry.partition("/")
        if not slash:
            continue
        where, covered = f"{at}[{index}]", f"is present, must not specify {entry}"
        if resource in with_all:
            errors.append(invalid(where, entry, f"if '{resource}/*' {covered}"))
        if subresource in of_all:
            errors.append(invalid(where, entry, f"if '*/{subresource}' {covered}"))
        if subresource == "*":
            with_all.add(resource)
        if resource == "*":
            of_all.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        errors.append(invalid(at, resources, "if '*/*' is present, must not specify other resources"))
    whole = [entry for entry in resources if entry and "/" not in entry]
    if "*" in whole and whole[-1] != "*":  # upstream looks at the last one only
        detail = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(at, resources, detail))
    return errors


def match_conditions(at: str, conditions: list[Object], expressions: Expressions) -> list[FieldError]:
    """Expressions that decide whether a request is looked at."""
    errors: list[FieldError] = []
    if len(conditions) > 64:
        errors.append(too_many(at, len(conditions), 64))
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        where = f"{at}[{index}]"
        name, expression = text(condition, "name"), text(condition, "expression").strip()
        if not expression:
            errors.append(required(f"{where}.expression"))
        else:
            errors += wrong_expression(f"{where}.expression", expression, expressions, "bool")
        errors += check_names(f"{where}.name", name, names.qualified_name) if name else [required(f"{where}.name")]
        if name and name in seen:
            errors.append(repeated(f"{where}.name", name))
        seen.add(name)
    return errors


def match_resources(at: str, found: Object, *, of_binding: bool) -> list[FieldError]:
    """Which objects a policy or binding is about."""
    errors = word(f"{at}.matchPolicy", found.get("matchPolicy"), ("Equivalent", "Exact"))
    if found.get("matchPolicy") is None:
        errors.append(required(f"{at}.matchPolicy"))
    for key in ("namespaceSelector", "objectSelector"):
        if found.get(key) is None:
            errors.append(required(f"{at}.{key}"))
        errors += label_selector(f"{at}.{key}", found.get(key))
    for key in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(items(found, key)):
            errors += _named_rule(f"{at}.{key}[{index}]", rule)
    if not of_binding and not items(found, "resourceRules"):
        errors.append(required(f"{at}.resourceRules"))
    return errors


def _named_rule(at: str, rule: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, name in enumerate(v for v in values(rule, "resourceNames") if isinstance(v, str)):
        errors += check_names(f"{at}.resourceNames[{index}]", name, names.path_segment)
        if name in seen:
            errors.append(repeated(f"{at}.resourceNames[{index}]", name))
        seen.add(name)
    return errors + rules(at, rule, wildcards=True)
