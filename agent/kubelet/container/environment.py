"""The environment variables of a container: services, envFrom, env with all its sources.

Source: kubelet's makeEnvironmentVariables and envvars; Container API, env and envFrom.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.kubelet.container.errors import ContainerConfigError, StartError
from agent.kubelet.container.expansion import expand
from agent.kubelet.pods import fieldref, spec
from agent.kubelet.pods.fieldref import PodFacts
from agent.kubelet.references import References
from machinery.api import meta, names
from machinery.api.meta import Object
from machinery.cache.informer import Informer

_MASTER_SERVICE = "kubernetes"
_NOT_NAME = re.compile(r"[^A-Z0-9_]")


@dataclass(frozen=True, slots=True)
class Environment:
    """Variables in order, and what to tell the user about those left out."""

    values: dict[str, str]
    warnings: tuple[tuple[str, str], ...] = ()  # (event reason, message)


async def build(
    pod: Object, container: Object, facts: PodFacts, references: References, services: Iterable[Object]
) -> Environment:
    """All variables of a container. Raises ContainerConfigError for a source that is not there."""
    namespace = meta.namespace_of(pod)
    links = pod["spec"].get("enableServiceLinks") is not False
    of_services = service_variables(_visible(services, namespace, links=links))
    values: dict[str, str] = {}
    warnings: list[tuple[str, str]] = []
    for source in container.get("envFrom") or ():
        await _take_all(source, namespace, references, values, warnings)
    for entry in container.get("env") or ():
        found = await _value(pod, container, entry, facts, references, {**of_services, **values})
        if found is not None:
            values[entry["name"]] = found
    merged = {name: value for name, value in of_services.items() if name not in values}
    return Environment({**values, **merged}, tuple(warnings))


async def _take_all(
    source: Object, namespace: str, references: References, values: dict[str, str], warnings: list[tuple[str, str]]
) -> None:
    for field, kind in (("configMapRef", "configMap"), ("secretRef", "secret")):
        reference = source.get(field)
        if not reference:
            continue
        optional = bool(reference.get("optional"))
        if kind == "configMap":
            obj = await references.config_map(namespace, reference["name"], optional=optional)
        else:
            obj = await references.secret(namespace, reference["name"], optional=optional)
        data = decoded(obj, kind)
        invalid = []
        for key in sorted(data):
            name = (source.get("prefix") or "") + key
            if names.relaxed_env_var_name(name):
                invalid.append(name)
                continue
            values[name] = data[key].decode(errors="replace")
        if invalid:
            warnings.append(
                (
                    "InvalidEnvironmentVariableNames",
                    f"Keys [{', '.join(invalid)}] from the EnvFrom {kind} {namespace}/{reference['name']} were skipped "
                    "since they are considered invalid environment variable names.",
                )
            )


def decoded(obj: Object | None, kind: str) -> dict[str, bytes]:
    """The contents of a ConfigMap (`configMap`) or Secret (`secret`) by key."""
    if obj is None:
        return {}
    found = obj.get("data") or {}
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in found.items()}
    data = {key: value.encode() for key, value in found.items()}
    return data | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


async def _value(
    pod: Object, container: Object, entry: Object, facts: PodFacts, references: References, known: Mapping[str, str]
) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value") or "", known)
    try:
        if source.get("fieldRef"):
            return fieldref.pod_field(pod, source["fieldRef"]["fieldPath"], facts)
        if source.get("resourceFieldRef"):
            return fieldref.resource_field(pod, container, source["resourceFieldRef"], facts)
    except ValueError as error:
        raise ContainerConfigError(str(error)) from error
    for field, kind in (("configMapKeyRef", "configMap"), ("secretKeyRef", "secret")):
        reference = source.get(field)
        if reference:
            return await _key(reference, kind, meta.namespace_of(pod), references)
    raise ContainerConfigError(f"environment variable {entry['name']}: {', '.join(source)} is not supported")


async def _key(reference: Object, kind: str, namespace: str, references: References) -> str | None:
    name, key, optional = reference["name"], reference["key"], bool(reference.get("optional"))
    if kind == "configMap":
        obj = await references.config_map(namespace, name, optional=optional)
    else:
        obj = await references.secret(namespace, name, optional=optional)
    data = decoded(obj, kind)
    if key in data:
        return data[key].decode(errors="replace")
    if optional:
        return None
    shown = "ConfigMap" if kind == "configMap" else "Secret"
    raise ContainerConfigError(f"couldn't find key {key} in {shown} {namespace}/{name}")


def known_services(informer: Informer | None, pod: Object) -> Iterable[Object]:
    """All Services. Raises StartError while unknown, but for static pods: the API server may be one of them."""
    if informer is None:
        return ()
    if not informer.has_synced and not spec.is_static(pod):
        raise StartError("services have not yet been read at least once, cannot construct envvars")
    return informer.list()


def _visible(services: Iterable[Object], namespace: str, *, links: bool) -> list[Object]:
    """Services of the pod's namespace, and always the API server's."""
    own, master = [], []
    for service in services:
        address = service.get("spec", {}).get("clusterIP")
        if not address or address == "None":
            continue
        if meta.namespace_of(service) == namespace and links:
            own.append(service)
        elif meta.namespace_of(service) == "default" and meta.name_of(service) == _MASTER_SERVICE:
            master.append(service)
    taken = {meta.name_of(service) for service in own}
    return [*own, *(service for service in master if meta.name_of(service) not in taken)]


def service_variables(services: Iterable[Object]) -> dict[str, str]:
    """`REDIS_SERVICE_HOST` and the rest, as Docker links had them."""
    found: dict[str, str] = {}
    for service in sorted(services, key=meta.name_of):
        prefix = _NOT_NAME.sub("_", meta.name_of(service).upper())
        address = service["spec"]["clusterIP"]
        ports = service["spec"].get("ports") or []
        if not ports:
            continue
        found[f"{prefix}_SERVICE_HOST"] = address
        found[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                found[f"{prefix}_SERVICE_PORT_{_NOT_NAME.sub('_', port['name'].upper())}"] = str(port["port"])
        shown = f"[{address}]" if ":" in address else address
        for index, port in enumerate(ports):
            protocol = port.get("protocol") or "TCP"
            url = f"{protocol.lower()}://{shown}:{port['port']}"
            if index == 0:
                found[f"{prefix}_PORT"] = url
            stem = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
            found[stem] = url
            found[f"{stem}_PROTO"] = protocol.lower()
            found[f"{stem}_PORT"] = str(port["port"])
            found[f"{stem}_ADDR"] = address
    return found
