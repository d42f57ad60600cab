"""From settings to profiles: every plugin made, and put where it takes part.

Source: k8s.io/kubernetes/pkg/scheduler/framework/runtime/framework.go (expandMultiPointPlugins), plugins/registry.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.scheduler import outoftree
from controlplane.scheduler.cluster import Workloads
from controlplane.scheduler.config.settings import PluginSet, ProfileSettings, Settings
from controlplane.scheduler.dynamic.cycle import Devices
from controlplane.scheduler.dynamic.plugin import DynamicResources
from controlplane.scheduler.framework import Afterthought, Filter, Gate, Plugin, PreFilter, Profile, Reserve, Score
from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.affinity import InterPodAffinity
from controlplane.scheduler.plugins.fit import NodeResourcesBalancedAllocation, NodeResourcesFit
from controlplane.scheduler.plugins.gates import SchedulingGates
from controlplane.scheduler.plugins.node import (
    ImageLocality,
    NodeAffinity,
    NodeDeclaredFeatures,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    TaintToleration,
)
from controlplane.scheduler.plugins.spread import PodTopologySpread
from controlplane.scheduler.plugins.volumebinder import VolumeBinder
from controlplane.scheduler.plugins.volumes import NodeVolumeLimits, VolumeBinding, VolumeRestrictions, VolumeZone
from controlplane.scheduler.recorder import Recorder
from controlplane.scheduler.storage import Storage
from machinery.client.rest import Client
from machinery.errors import SettingsError


@dataclass(frozen=True)
class Surroundings:
    """What built-in plugins are made of."""

    nodes: NodeTable
    storage: Storage
    workloads: Workloads
    devices: Devices
    client: Client
    recorder: Recorder


def build(settings: Settings, around: Surroundings) -> dict[str, Profile]:
    """The profiles by schedulerName. Raises SettingsError."""
    ignored = frozenset(
        name for extender in settings.extenders for name, leave in extender.managed_resources.items() if leave
    )
    return {profile.name: _build(profile, around, ignored) for profile in settings.profiles}


class _Marker:
    """A plugin that is part of the scheduler itself and can only be left out."""

    def __init__(self, name: str) -> None:
        self.name = name


def _build(given: ProfileSettings, around: Surroundings, ignored: frozenset[str]) -> Profile:
    names = dict.fromkeys(name for chosen in (given.multi_point, *given.points.values()) for name, _ in chosen.enabled)
    made = {name: _make(name, given.args, around, ignored) for name in names}
    queue_sort = _at("queueSort", given, made, _Marker)
    if [plugin.name for plugin, _ in queue_sort] != ["PrioritySort"]:
        raise SettingsError(f"profile {given.name}: exactly one queue sort plugin is needed, and PrioritySort is it")
    if not any(plugin.name == "DefaultBinder" for plugin, _ in _at("bind", given, made, _Marker)):
        raise SettingsError(f"profile {given.name}: at least one bind plugin is needed, and DefaultBinder is it")
    post = _of(_at("postFilter", given, made, Afterthought))
    limits = given.args["DefaultPreemption"]
    reserves = [*_of(_at("reserve", given, made, Reserve))]
    if any(isinstance(plugin, VolumeBinding) for plugin, _ in _at("preBind", given, made, VolumeBinding)):
        seconds = given.args["VolumeBinding"].bind_seconds
        reserves.insert(0, VolumeBinder(around.storage, around.client, around.nodes, seconds))
    return Profile(
        name=given.name,
        pre_filters=_of(_at("preFilter", given, made, PreFilter)),
        filters=_of(_at("filter", given, made, Filter)),
        scores=[(plugin, weight or 1) for plugin, weight in _at("score", given, made, Score)],
        gates=_of(_at("preEnqueue", given, made, Gate)),
        reserves=reserves,
        afterthoughts=[plugin for plugin in post if not isinstance(plugin, _Marker)],
        preemption=any(plugin.name == "DefaultPreemption" for plugin in post),
        min_candidates_percentage=limits.percentage,
        min_candidates=limits.absolute,
    )


_MARKED = {"PrioritySort": "queueSort", "DefaultBinder": "bind", "DefaultPreemption": "postFilter"}


def _at(point: str, given: ProfileSettings, made: Mapping[str, Plugin], kind: Any) -> list[tuple[Any, int]]:
    """(plugin, weight) in order: those the point names that are in multiPoint too, the others of multiPoint, the rest.

    Raises SettingsError for a plugin that is named at a point which it does not have.
    """
    chosen = given.points.get(point, PluginSet())
    here = dict(chosen.enabled)
    everywhere = dict(given.multi_point.enabled)
    for name in here:
        if not _takes_part(made[name], point, kind):
            raise SettingsError(f'plugin "{name}" does not extend {point} plugin')
    if len(here) != len(chosen.enabled):
        raise SettingsError(f"profile {given.name}: plugin already registered at {point}")
    order = [name for name in here if name in everywhere]
    if "*" not in chosen.disabled:
        order += [name for name in everywhere if name not in here and name not in chosen.disabled]
    order += [name for name in here if name not in everywhere]
    return [
        (made[name], here.get(name, everywhere.get(name, 0))) for name in order if _takes_part(made[name], point, kind)
    ]


def _takes_part(plugin: Plugin, point: str, kind: Any) -> bool:
    if isinstance(plugin, _Marker):
        return _MARKED[plugin.name] == point
    return isinstance(plugin, kind)


def _of(chosen: list[tuple[Any, int]]) -> list[Any]:
    return [plugin for plugin, _ in chosen]


def _make(name: str, args: Mapping[str, Any], around: Surroundings, ignored: frozenset[str]) -> Plugin:
    if name in _MARKED:
        return _Marker(name)
    plugin = _built_in(name, args, around, ignored)
    return plugin if plugin is not None else outoftree.make(name, args.get(name) or {})


def _built_in(name: str, args: Mapping[str, Any], around: Surroundings, ignored: frozenset[str]) -> Plugin | None:
    own: Any = args.get(name)
    match name:
        case "NodeResourcesFit":
            settings = replace(own, ignored_resources=own.ignored_resources | ignored)
            return NodeResourcesFit(settings, around.devices.classes.stands_behind)
        case "NodeResourcesBalancedAllocation":
            return NodeResourcesBalancedAllocation(own.resources)
        case "NodeAffinity":
            return NodeAffinity(dict(own.added) if own.added else None)
        case "PodTopologySpread":
            return PodTopologySpread(around.workloads.selector_of, own.defaults)
        case "InterPodAffinity":
            return InterPodAffinity(
                hard_weight=own.hard_weight, ignore_preferred_of_others=own.ignore_preferred_of_others
            )
        case "VolumeRestrictions":
            return VolumeRestrictions(around.storage)
        case "VolumeBinding":
            return VolumeBinding(around.storage)
        case "VolumeZone":
            return VolumeZone(around.storage)
        case "NodeVolumeLimits":
            return NodeVolumeLimits(around.storage)
        case "DynamicResources":
            limits = own.filter_seconds, own.binding_seconds
            return DynamicResources(around.devices, around.client, around.nodes, around.recorder, limits)
    plain: dict[str, type[Plugin]] = {
        "SchedulingGates": SchedulingGates,
        "NodeUnschedulable": NodeUnschedulable,
        "NodeName": NodeName,
        "TaintToleration": TaintToleration,
        "NodePorts": NodePorts,
        "ImageLocality": ImageLocality,
        "NodeDeclaredFeatures": NodeDeclaredFeatures,
    }
    return plain[name]() if name in plain else None
