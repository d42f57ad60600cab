"""Reading a KubeSchedulerConfiguration file: fields, defaults, validation with upstream's messages.

Source: k8s.io/kubernetes/pkg/scheduler/apis/config (v1/defaults.go, validation/validation.go).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.scheduler.config import shown
from controlplane.scheduler.config.pluginargs import ARGS
from controlplane.scheduler.config.reading import Errors, Reader
from controlplane.scheduler.config.settings import (
    API_VERSION,
    DEFAULT_NAME,
    DEFAULT_PLUGINS,
    POINTS,
    ExtenderSettings,
    PluginSet,
    ProfileSettings,
    Settings,
)
from machinery.api import fielderror, names
from machinery.errors import SettingsError
from machinery.settings import load_config

KIND = "KubeSchedulerConfiguration"
_INVALID_PLUGINS = ("AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits")
_FIELDS = (
    "apiVersion", "kind", "parallelism", "leaderElection", "clientConnection", "enableProfiling",
    "enableContentionProfiling", "percentageOfNodesToScore", "podInitialBackoffSeconds", "podMaxBackoffSeconds",
    "profiles", "extenders", "delayCacheUntilActive",
)  # fmt: skip


def load(path: str) -> Settings:
    """The settings of a file. Raises SettingsError naming what is wrong."""
    try:
        return read(load_config(path, KIND, (API_VERSION,)))
    except SettingsError as exc:
        text = str(exc)
        raise SettingsError(text if text.startswith(path) else f"{path}: {text}") from exc


def read(config: Mapping[str, Any]) -> Settings:
    """The settings of a configuration object. Raises SettingsError."""
    top, errors = Reader(config, ""), Errors()
    top.known(_FIELDS)
    connection = top.child("clientConnection")
    connection.known(("kubeconfig", "acceptContentTypes", "contentType", "qps", "burst"))
    if connection.number("burst", 100) < 0:
        burst = connection.number("burst", 100)
        errors.add(fielderror.invalid(connection.at("burst"), burst, "must be non-negative"))
    flags = _leader_election(top.child("leaderElection"), errors)
    parallelism = top.number("parallelism", 16)
    if parallelism <= 0:
        errors.add(fielderror.invalid("parallelism", parallelism, "should be an integer value greater than zero"))
    given = top.children("profiles") or [Reader({}, "profiles[0]")]
    profiles = [_profile(each, errors, alone=len(given) == 1) for each in given]
    _check_profiles(given, profiles, errors)
    _percentage(top, errors)
    initial, most = top.number("podInitialBackoffSeconds", 1), top.number("podMaxBackoffSeconds", 10)
    if initial <= 0:
        errors.add(fielderror.invalid("podInitialBackoffSeconds", initial, "must be greater than 0"))
    if most < initial:
        told = "must be greater than or equal to PodInitialBackoffSeconds"
        errors.add(fielderror.invalid("podMaxBackoffSeconds", most, told))
    extenders = _extenders(top, errors)
    errors.raise_if_any("invalid configuration")
    return Settings(
        profiles=profiles,
        extenders=extenders,
        kubeconfig=connection.text("kubeconfig"),
        initial_backoff_seconds=float(initial),
        max_backoff_seconds=float(most),
        flags=flags,
        shown=shown.filled(config, [(profile.name, _plugins(profile)) for profile in profiles]),
    )


def _plugins(profile: ProfileSettings) -> shown.Plugins:
    sets = {"multiPoint": profile.multi_point} | {point: profile.points.get(point, PluginSet()) for point in POINTS}
    return {point: (chosen.enabled, sorted(chosen.disabled)) for point, chosen in sets.items()}


# -- leader election --------------------------------------------------------------------------------------------------

_LEADER_FIELDS = {
    "leaderElect": "leader-elect",
    "leaseDuration": "leader-elect-lease-duration",
    "renewDeadline": "leader-elect-renew-deadline",
    "retryPeriod": "leader-elect-retry-period",
    "resourceName": "leader-elect-resource-name",
    "resourceNamespace": "leader-elect-resource-namespace",
    "resourceLock": "leader-elect-resource-lock",
}
_DURATIONS = (("leaseDuration", 15.0), ("renewDeadline", 10.0), ("retryPeriod", 2.0))


def _leader_election(given: Reader, errors: Errors) -> dict[str, Any]:
    """The file's leaderElection as values of the flags of the same meaning."""
    given.known(_LEADER_FIELDS)
    values: dict[str, Any] = {}
    if "leaderElect" in given.given:
        values["leaderElect"] = given.switch("leaderElect", True)
    for name in ("resourceName", "resourceNamespace", "resourceLock"):
        if given.text(name):
            values[name] = given.text(name)
    seconds = {name: given.seconds(name, default) for name, default in _DURATIONS}
    values |= {name: seconds[name] for name in seconds if name in given.given}
    if given.switch("leaderElect", True):
        for name, value in seconds.items():
            if value <= 0:
                errors.add(fielderror.invalid(given.at(name), given.text(name), "must be greater than zero"))
        if seconds["leaseDuration"] <= seconds["renewDeadline"]:
            told = "LeaseDuration must be greater than RenewDeadline"
            errors.add(fielderror.invalid(given.at("leaseDuration"), given.text("renewDeadline"), told))
        if given.text("resourceLock", "leases") != "leases":
            told = 'resourceLock value must be "leases"'
            errors.add(fielderror.invalid(given.at("resourceLock"), given.text("resourceLock"), told))
    return {_LEADER_FIELDS[name]: value for name, value in values.items()}


# -- profiles ---------------------------------------------------------------------------------------------------------


def _profile(given: Reader, errors: Errors, *, alone: bool) -> ProfileSettings:
    given.known(("schedulerName", "percentageOfNodesToScore", "plugins", "pluginConfig"))
    name = given.text("schedulerName", DEFAULT_NAME if alone else "")
    if not name:
        errors.add(fielderror.required(given.at("schedulerName"), ""))
    _percentage(given, errors)
    plugins = given.child("plugins")
    plugins.known(("multiPoint", *POINTS))
    sets = {point: _plugin_set(plugins.child(point), errors) for point in ("multiPoint", *POINTS)}
    return ProfileSettings(
        name=name,
        multi_point=_merged(sets.pop("multiPoint")),
        points={point: chosen for point, chosen in sets.items() if chosen.enabled or chosen.disabled},
        args=_plugin_config(given, errors),
    )


def _plugin_set(given: Reader, errors: Errors) -> PluginSet:
    given.known(("enabled", "disabled"))
    enabled = []
    for plugin in given.children("enabled"):
        plugin.known(("name", "weight"))
        name = plugin.text("name")
        if name in _INVALID_PLUGINS:
            errors.add(fielderror.invalid(plugin.path, name, _gone()))
        enabled.append((name, plugin.number("weight", 0)))
    for plugin in given.children("disabled"):
        plugin.known(("name", "weight"))
    return PluginSet(enabled, frozenset(plugin.text("name") for plugin in given.children("disabled")))


def _gone() -> str:
    return f'was invalid in version "{API_VERSION}" (KubeSchedulerConfiguration is version "{API_VERSION}")'


def _merged(chosen: PluginSet) -> PluginSet:
    """The default plugins with what the file says of them: replaced in place, left out, or more at the end."""
    again = dict(chosen.enabled)
    enabled: list[tuple[str, int]] = []
    if "*" not in chosen.disabled:
        for name, weight in DEFAULT_PLUGINS:
            if name not in chosen.disabled:
                enabled.append((name, again.get(name, weight)))
    standing = {name for name, _ in enabled}
    return PluginSet([*enabled, *(each for each in chosen.enabled if each[0] not in standing)], chosen.disabled)


def _plugin_config(given: Reader, errors: Errors) -> dict[str, Any]:
    found: dict[str, Any] = {name: parse(Reader({}, "args"), Errors()) for name, parse in ARGS.items()}
    seen = set()
    for config in given.children("pluginConfig"):
        config.known(("name", "args"))
        name = config.text("name")
        if name in seen:
            errors.add(fielderror.duplicate(config.path, name))
        seen.add(name)
        args = config.child("args")
        if name in _INVALID_PLUGINS:
            errors.add(fielderror.invalid(config.path, name, _gone()))
        elif name in ARGS:
            if args.text("kind", f"{name}Args") != f"{name}Args":
                errors.add(fielderror.invalid(args.path, dict(args.given), "has to match plugin args"))
            else:
                found[name] = ARGS[name](args, errors)
        else:
            found[name] = dict(args.given)
    return found


def _check_profiles(given: Sequence[Reader], profiles: Sequence[ProfileSettings], errors: Errors) -> None:
    first: dict[str, int] = {}
    for index, profile in enumerate(profiles):
        if profile.name in first:
            path = given[index].at("schedulerName")
            errors.add(fielderror.duplicate(path, f"profiles[{first[profile.name]}]"))
        first.setdefault(profile.name, index)
        if profile.points.get("queueSort") != profiles[0].points.get("queueSort"):
            path = given[index].at("plugins.queueSort")
            chosen = given[index].child("plugins").child("queueSort").given
            errors.add(fielderror.invalid(path, dict(chosen), "must be the same for all profiles"))
    sorters = profiles[0].points.get("queueSort", PluginSet()).enabled
    if len(sorters) > 1:
        path = given[0].at("plugins.queueSort.Enabled")
        errors.add(fielderror.invalid(path, len(sorters), "only one queue sort plugin can be enabled"))


def _percentage(given: Reader, errors: Errors) -> None:
    value = given.number("percentageOfNodesToScore", 0)  # every node is looked at, whatever it is
    if not 0 <= value <= 100:
        errors.add(fielderror.invalid(given.at("percentageOfNodesToScore"), value, "not in valid range [0-100]"))


# -- extenders --------------------------------------------------------------------------------------------------------

_EXTENDER_FIELDS = (
    "urlPrefix", "filterVerb", "preemptVerb", "prioritizeVerb", "weight", "bindVerb", "enableHTTPS", "tlsConfig",
    "httpTimeout", "nodeCacheCapable", "managedResources", "ignorable",
)  # fmt: skip
_TLS_FIELDS = ("insecure", "serverName", "certFile", "keyFile", "caFile", "certData", "keyData", "caData")


def _extenders(top: Reader, errors: Errors) -> list[ExtenderSettings]:
    found = []
    managed: set[str] = set()
    for given in top.children("extenders"):
        given.known(_EXTENDER_FIELDS)
        tls = given.child("tlsConfig")
        tls.known(_TLS_FIELDS)
        weight = given.number("weight", 0)
        if given.text("prioritizeVerb") and weight <= 0:
            errors.add(fielderror.invalid(given.at("weight"), weight, "must have a positive weight applied to it"))
        resources = {}
        for resource in given.children("managedResources"):
            resource.known(("name", "ignoredByScheduler"))
            name = resource.text("name")
            _check_managed(resource, name, managed, errors)
            managed.add(name)
            resources[name] = resource.switch("ignoredByScheduler", False)
        secured = given.switch("enableHTTPS", False) or bool(tls.given)
        found.append(
            ExtenderSettings(
                url_prefix=given.text("urlPrefix"),
                filter_verb=given.text("filterVerb"),
                prioritize_verb=given.text("prioritizeVerb"),
                preempt_verb=given.text("preemptVerb"),
                bind_verb=given.text("bindVerb"),
                weight=weight,
                timeout_seconds=given.seconds("httpTimeout", 5.0) or 5.0,
                node_cache_capable=given.switch("nodeCacheCapable", False),
                managed_resources=resources,
                ignorable=given.switch("ignorable", False),
                tls=tls.given if secured else None,
            )
        )
    binders = sum(1 for extender in found if extender.bind_verb)
    if binders > 1:
        told = f"found {binders} extenders implementing bind"
        errors.add(fielderror.invalid("extenders", told, "only one extender can implement bind"))
    return found


def _check_managed(resource: Reader, name: str, managed: set[str], errors: Errors) -> None:
    path = resource.at("name")
    wrong = names.qualified_name(name)
    if wrong:
        errors.add(*(fielderror.invalid(path, name, each) for each in wrong))
    elif "/" not in name or name.split("/")[0].endswith("kubernetes.io") or name.startswith("requests."):
        errors.add(fielderror.invalid(path, name, "is an invalid extended resource name"))
    if name in managed:
        errors.add(fielderror.invalid(path, name, "duplicate extender managed resource name"))
