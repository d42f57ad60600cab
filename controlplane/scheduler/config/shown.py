"""The whole configuration as /configz shows it: defaults filled in, under the names of upstream's internal type.

Source: k8s.io/kubernetes/pkg/scheduler/apis/config (types.go, types_pluginargs.go), cmd/kube-scheduler/app/server.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_DEFAULTS: Mapping[str, Any] = {
    "parallelism": 16,
    "enableProfiling": True,
    "enableContentionProfiling": True,
    "percentageOfNodesToScore": 0,
    "podInitialBackoffSeconds": 1,
    "podMaxBackoffSeconds": 10,
    "extenders": None,
    "delayCacheUntilActive": False,
}
_LEADER_ELECTION = {
    "leaderElect": True,
    "leaseDuration": "15s",
    "renewDeadline": "10s",
    "retryPeriod": "2s",
    "resourceLock": "leases",
    "resourceName": "kube-scheduler",
    "resourceNamespace": "kube-system",
}
_CONNECTION = {
    "kubeconfig": "",
    "acceptContentTypes": "",
    "contentType": "application/vnd.kubernetes.protobuf",
    "qps": 50,
    "burst": 100,
}
_CPU_AND_MEMORY = [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]
_ARGS: Mapping[str, Mapping[str, Any]] = {
    "DefaultPreemption": {"minCandidateNodesPercentage": 10, "minCandidateNodesAbsolute": 100},
    "DynamicResources": {"filterTimeout": "10s", "bindingTimeout": "10m0s"},
    "InterPodAffinity": {"hardPodAffinityWeight": 1, "ignorePreferredTermsOfExistingPods": False},
    "NodeAffinity": {"addedAffinity": None},
    "NodeResourcesBalancedAllocation": {"resources": _CPU_AND_MEMORY},
    "NodeResourcesFit": {
        "ignoredResources": None,
        "ignoredResourceGroups": None,
        "scoringStrategy": {
            "type": "LeastAllocated",
            "resources": _CPU_AND_MEMORY,
            "requestedToCapacityRatio": None,
        },
    },
    "PodTopologySpread": {"defaultConstraints": None, "defaultingType": "System"},
    "VolumeBinding": {"bindTimeoutSeconds": 600, "shape": None},
}

Plugins = Mapping[str, tuple[Sequence[tuple[str, int]], Sequence[str]]]
"""Extension point (`multiPoint` too) → (enabled with weights, disabled)."""


def filled(config: Mapping[str, Any], plugins: Sequence[tuple[str, Plugins]]) -> dict[str, Any]:
    """A configuration file with all that it leaves to defaults; `plugins`: of each profile, by schedulerName."""
    given = config.get("profiles") or [{}]
    profiles = [_profile(each, name, chosen) for each, (name, chosen) in zip(given, plugins, strict=True)]
    return {
        **_DEFAULTS,
        **config,
        "leaderElection": {**_LEADER_ELECTION, **(config.get("leaderElection") or {})},
        "clientConnection": {**_CONNECTION, **(config.get("clientConnection") or {})},
        "profiles": profiles,
    }


def _profile(given: Mapping[str, Any], name: str, plugins: Plugins) -> dict[str, Any]:
    configured = {each["name"]: each.get("args") or {} for each in given.get("pluginConfig") or ()}
    args = {each: {**_ARGS.get(each, {}), **configured.get(each, {})} for each in (*_ARGS, *configured)}
    return {
        "schedulerName": name,
        "percentageOfNodesToScore": given.get("percentageOfNodesToScore"),
        "plugins": {
            point: {
                "enabled": [{"name": each, "weight": weight} for each, weight in enabled] or None,
                "disabled": [{"name": each, "weight": 0} for each in disabled] or None,
            }
            for point, (enabled, disabled) in plugins.items()
        },
        "pluginConfig": [{"name": each, "args": args[each]} for each in sorted(args)],
    }


def as_go_names(value: Any) -> Any:
    """The same under the field names of Go: upstream's internal type has no others."""
    if isinstance(value, Mapping):
        return {_go_name(key): as_go_names(each) for key, each in value.items() if key not in ("apiVersion", "kind")}
    if isinstance(value, list):
        return [as_go_names(each) for each in value]
    return value


def _go_name(key: str) -> str:
    return {"qps": "QPS", "urlPrefix": "URLPrefix", "httpTimeout": "HTTPTimeout", "tlsConfig": "TLSConfig"}.get(
        key, key[:1].upper() + key[1:]
    )
