"""What a KubeSchedulerConfiguration says, with upstream's defaults.

Source: https://kubernetes.io/docs/reference/config-api/kube-scheduler-config.v1/; apis/config/v1/default_plugins.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEFAULT_NAME = "default-scheduler"
API_VERSION = "kubescheduler.config.k8s.io/v1"

POINTS = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "permit",
    "preBind", "bind", "postBind",
)  # fmt: skip
"""Extension points, as the file names them; `multiPoint` stands for all that a plugin has."""

DEFAULT_PLUGINS: Sequence[tuple[str, int]] = (
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DynamicResources", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
    ("NodeDeclaredFeatures", 0),
)
"""Upstream's default plugins, in its order, with the weights of their scores."""


@dataclass(frozen=True)
class PluginSet:
    """Who takes part at an extension point, with weights, and who does not (`*`: none of the others)."""

    enabled: Sequence[tuple[str, int]] = ()
    disabled: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProfileSettings:
    """One profile: its schedulerName, which plugins take part where, and their args."""

    name: str = DEFAULT_NAME
    multi_point: PluginSet = PluginSet(DEFAULT_PLUGINS)
    points: Mapping[str, PluginSet] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)
    """Of built-in plugins as `pluginargs` reads them, of others as they stand in the file."""


@dataclass(frozen=True)
class ExtenderSettings:
    """A program that has a say, over HTTP. Source: kube-scheduler Extender, kube-scheduler/extender/v1."""

    url_prefix: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    preempt_verb: str = ""
    bind_verb: str = ""
    weight: int = 0
    timeout_seconds: float = 5.0
    node_cache_capable: bool = False
    managed_resources: Mapping[str, bool] = field(default_factory=dict)
    """Resource name → whether NodeResourcesFit must leave it to the extender."""
    ignorable: bool = False
    tls: Mapping[str, Any] | None = None
    """None: plain http, unless the address says https."""


@dataclass(frozen=True)
class Settings:
    """What the configuration file says."""

    profiles: Sequence[ProfileSettings] = (ProfileSettings(),)
    extenders: Sequence[ExtenderSettings] = ()
    kubeconfig: str = ""
    initial_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 10.0
    flags: Mapping[str, Any] = field(default_factory=dict)
    """Flags of the same meaning as fields of the file: leader election."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """The whole of it, defaults included, in the form of the file."""
