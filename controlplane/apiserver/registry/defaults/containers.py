"""Defaults of containers: images, probes, ports, environment.

Source: pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import items, put_absent, put_empty, sub, text
from machinery.api import quantity
from machinery.api.meta import Object


def default_container(container: Object) -> None:
    """A container, init container or ephemeral container."""
    put_empty(container, imagePullPolicy=pull_policy(text(container, "image")))
    put_empty(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for port in items(container, "ports"):
        put_empty(port, protocol="TCP")
    for variable in items(container, "env"):
        default_field_reference(sub(variable, "valueFrom"))
        if key := sub(variable, "valueFrom").get("fileKeyRef"):
            put_absent(key, optional=False)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(probe := container.get(name), dict):
            default_probe(probe)
    for name in ("postStart", "preStop"):
        default_handler(sub(container, "lifecycle", name))
    default_resources(sub(container, "resources"))


def pull_policy(image: str) -> str:
    """Always for images without tag and digest, or with the tag `latest`."""
    rest, _, digest = image.partition("@")
    tag = rest.rpartition("/")[2].partition(":")[2]
    return "Always" if image and (tag == "latest" or not (tag or digest)) else "IfNotPresent"


def default_probe(probe: Object) -> None:
    """A probe; initialDelaySeconds has no default."""
    put_absent(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    default_handler(probe)


def default_handler(handler: Object) -> None:
    """What a probe or a lifecycle hook does."""
    if isinstance(get := handler.get("httpGet"), dict):
        put_empty(get, path="/", scheme="HTTP")
    if isinstance(grpc := handler.get("grpc"), dict):
        put_absent(grpc, service="")


def default_field_reference(holder: Object) -> None:
    """`fieldRef` of an environment variable or a downward API file."""
    if isinstance(reference := holder.get("fieldRef"), dict):
        put_empty(reference, apiVersion="v1")


def default_resources(resources: Object) -> None:
    """Requests and limits, in whole millis."""
    for amounts in ("limits", "requests"):
        round_amounts(sub(resources, amounts))


def round_amounts(amounts: Object) -> None:
    """Amounts finer than a milli are rounded up."""
    for name, amount in amounts.items():
        if isinstance(amount, str) and amount[-1:] in "nu":
            try:
                amounts[name] = str(quantity.parse(amount).rounded_up(-3))
            except ValueError:
                continue


def requests_from_limits(resources: Object) -> None:
    """What has a limit and no request requests its limit: in pods, not in templates."""
    limits = sub(resources, "limits")
    if limits:
        requests = resources.get("requests")
        resources["requests"] = {**limits, **(requests if isinstance(requests, dict) else {})}
