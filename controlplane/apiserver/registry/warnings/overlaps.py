"""Warnings about ports and files of pods that are in each other's way.

Source: pkg/api/pod/warnings.go (warningsForPodSpecAndMeta, warningsForOverlappingVirtualPaths).
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.apiserver.registry.objects import items, number, sub, text
from machinery.api.fielderror import show
from machinery.api.meta import Object

Listed = list[tuple[str, Object]]
"""Containers with their fields, in the order in which they are looked at."""


def ports(listed: Listed) -> list[str]:
    """Ports that are there twice, by number or by name."""
    return _numbers(listed) + _names(listed)


def _numbers(listed: Listed) -> list[str]:
    found: list[str] = []
    taken: dict[tuple[int, str], Listed] = {}
    for at, container in listed:
        for index, port in enumerate(items(container, "ports")):
            here = f"{at}.ports[{index}]"
            if text(port, "hostIP") and not number(port, "hostPort"):
                found.append(f"{here}: hostIP set without hostPort: {_shown(port)}")
            others = taken.setdefault((number(port, "containerPort"), text(port, "protocol")), [])
            for where, other in others:
                if clash := _clash(port, other):
                    found.append(f"{here}: {clash} port definition with {where}")
            others.append((here, port))
    return found


def _shown(port: Object) -> str:
    """A port as Go prints it."""
    return (
        f"{{Name:{text(port, 'name')} HostPort:{number(port, 'hostPort')} "
        f"ContainerPort:{number(port, 'containerPort')} Protocol:{text(port, 'protocol')} "
        f"HostIP:{text(port, 'hostIP')}}}"
    )


def _clash(port: Object, other: Object) -> str:
    ours, theirs = number(port, "hostPort"), number(other, "hostPort")
    address, another = text(port, "hostIP"), text(other, "hostIP")
    if address == another and ours == theirs:
        return "duplicate"
    if not ours or not theirs:
        return "overlapping"
    return "dangerously ambiguous" if ours == theirs and bool(address) != bool(another) else ""


def _names(listed: Listed) -> list[str]:
    found: list[str] = []
    first_of: dict[str, tuple[str, str]] = {}
    for at, container in listed:
        for index, port in enumerate(items(container, "ports")):
            here, name = f"{at}.ports[{index}]", text(port, "name")
            if name and first_of.setdefault(name, (at, here))[0] != at:
                first = first_of[name][1]
                found.append(
                    f"{here}: duplicate port name {show(name)} with {first}, "
                    f"services and probes that select ports by name will use {first}"
                )
    return found


def overlapping_paths(volumes: list[Object]) -> list[str]:
    """Files of one volume where one is in the place of another, or of its directory."""
    found: list[str] = []
    for volume in volumes:
        name = show(text(volume, "name"))
        for kind, told, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
            source = sub(volume, kind)
            if items(source, "items"):
                about = f"volume {name} ({told} {show(text(source, key))}): overlapping paths"
                found += _overlaps(_paths(source), about)
        if items(volume, "downwardAPI", "items"):
            about = f"volume {name} (DownwardAPI): overlapping paths"
            found += _overlaps(_paths(sub(volume, "downwardAPI")), about)
        found += _projected(name, items(volume, "projected", "sources"))
    return found


def _paths(source: Object) -> list[str]:
    return [text(item, "path") for item in items(source, "items")]


def _projected(name: str, sources: list[Object]) -> list[str]:
    found: list[str] = []
    everything: set[str] = set()
    paths: list[str] = []
    about = ""
    for source in sources:
        if not source:
            found.append(f"volume {name} (Projected) has no sources provided")
            continue
        # As upstream: a source without files of its own is taken for the one before it.
        paths, told = _files(source) or (paths, about)
        about = told if told == about else f"volume {name} (Projected {told}): overlapping paths"
        if paths:
            found += _overlaps(paths, about)
            found += _overlaps(sorted([*set(paths), *everything]), about)
            everything |= set(paths)
    return found


def _files(source: Object) -> tuple[list[str], str] | None:
    for kind, told in (("configMap", "ConfigMap"), ("secret", "Secret")):
        if items(source, kind, "items"):
            return _paths(sub(source, kind)), f"{told} {show(text(source, kind, 'name'))}"
    if items(source, "downwardAPI", "items"):
        return _paths(sub(source, "downwardAPI")), "DownwardAPI"
    if isinstance(token := source.get("serviceAccountToken"), dict):
        return [text(token, "path")], "ServiceAccountToken"
    if isinstance(bundle := source.get("clusterTrustBundle"), dict):
        return [text(bundle, "path")], f"ClusterTrustBundle {show(text(bundle, 'name') or text(bundle, 'signerName'))}"
    return None


def _overlaps(paths: Iterable[str], about: str) -> list[str]:
    found: list[str] = []
    seen: dict[str, None] = {}
    for path in (path.rstrip("/") for path in paths):
        other = next((o for o in seen if not o or not path or f"{o}/".startswith(path) or f"{path}/".startswith(o)), "")
        if other and path:
            found.append(f"{about}: {show(path)} with {show(other)}")
        seen[path] = None
    return found
