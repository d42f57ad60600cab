"""KubeSchedulerConfiguration: what a file may say, what it comes to, and what is said when it is wrong."""

from pathlib import Path
from typing import Any

import pytest
from scheduler_profiles import profiles_of

from controlplane.scheduler.config import file
from controlplane.scheduler.config.settings import API_VERSION
from controlplane.scheduler.flags import defaults, parse
from controlplane.scheduler.framework import Profile
from controlplane.scheduler.program import serve
from machinery.errors import SettingsError


def read(**config: Any) -> Any:
    return file.read({"apiVersion": API_VERSION, "kind": file.KIND, **config})


def built(**profile: Any) -> Profile:
    return profiles_of({"schedulerName": "s", **profile})["s"]


def names(plugins: Any) -> list[str]:
    return [plugin[0].name if isinstance(plugin, tuple) else plugin.name for plugin in plugins]


def test_the_default_plugins_in_upstreams_order_with_its_weights() -> None:
    made = built()
    assert names(made.filters) == [
        *("NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit"),
        *("VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread"),
        *("InterPodAffinity", "DynamicResources", "NodeDeclaredFeatures"),
    ]
    assert {plugin.name: weight for plugin, weight in made.scores} == {
        "TaintToleration": 3,
        "NodeAffinity": 2,
        "NodeResourcesFit": 1,
        "PodTopologySpread": 2,
        "InterPodAffinity": 2,
        "DynamicResources": 2,
        "NodeResourcesBalancedAllocation": 1,
        "ImageLocality": 1,
    }
    assert names(made.gates) == ["SchedulingGates", "DynamicResources"]
    assert made.preemption


@pytest.mark.parametrize(
    ("plugins", "filters", "scores"),
    [
        ({"score": {"disabled": [{"name": "*"}]}}, 14, []),
        (
            {"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality", "weight": 7}]}},
            14,
            [("ImageLocality", 7)],
        ),
        ({"multiPoint": {"disabled": [{"name": "NodePorts"}]}, "score": {"disabled": [{"name": "*"}]}}, 13, []),
        (
            {
                "multiPoint": {"enabled": [{"name": "ImageLocality", "weight": 5}]},
                "filter": {"disabled": [{"name": "*"}]},
            },
            0,
            [*(("TaintToleration", 3), ("NodeAffinity", 2), ("NodeResourcesFit", 1), ("PodTopologySpread", 2)),
             *(("InterPodAffinity", 2), ("DynamicResources", 2), ("NodeResourcesBalancedAllocation", 1)),
             ("ImageLocality", 5)],
        ),
        (
            {"score": {"enabled": [{"name": "ImageLocality"}]}},
            14,
            [*(("ImageLocality", 1), ("TaintToleration", 3), ("NodeAffinity", 2), ("NodeResourcesFit", 1)),
             *(("PodTopologySpread", 2), ("InterPodAffinity", 2), ("DynamicResources", 2)),
             ("NodeResourcesBalancedAllocation", 1)],
        ),
    ],
)  # fmt: skip
def test_plugins_are_put_where_the_file_says(plugins: Any, filters: int, scores: list[tuple[str, int]]) -> None:
    made = built(plugins=plugins)
    assert len(made.filters) == filters
    assert [(plugin.name, weight) for plugin, weight in made.scores] == scores


def test_several_profiles_and_args() -> None:
    made = profiles_of(
        {"schedulerName": "packing", "pluginConfig": [
            {"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "MostAllocated"}}},
            {"name": "DefaultPreemption", "args": {"minCandidateNodesAbsolute": 3}},
        ]},
        {"schedulerName": "plain", "plugins": {"postFilter": {"disabled": [{"name": "DefaultPreemption"}]}}},
    )  # fmt: skip
    assert made["packing"].min_candidates == 3
    assert made["packing"].min_candidates_percentage == 10
    assert not made["plain"].preemption


BOTH = "invalid configuration: [profiles[0].pluginConfig[0].args.minCandidateNodesPercentage: Invalid value: 0: "


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"profilez": []}, 'strict decoding error: unknown field "profilez"'),
        ({"parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        ({"parallelism": "many"}, "json: cannot unmarshal string into field parallelism of type int"),
        ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
        ({"podInitialBackoffSeconds": 0}, "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"podInitialBackoffSeconds": 5, "podMaxBackoffSeconds": 2},
            "podMaxBackoffSeconds: Invalid value: 2: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        ({"profiles": [{"schedulerName": "a"}, {}]}, "profiles[1].schedulerName: Required value"),
        (
            {"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]},
            'profiles[1].schedulerName: Duplicate value: "profiles[0]"',
        ),
        (
            {"profiles": [{"plugins": {"score": {"enabled": [{"name": "EBSLimits"}]}}}]},
            'profiles[0].plugins.score.enabled[0]: Invalid value: "EBSLimits": was invalid in version',
        ),
        (
            {"profiles": [{"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 101}}]}]},
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            {"profiles": [{"pluginConfig": [
                {"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": "Best"}}}]}]},
            'scoringStrategy.type: Unsupported value: "Best": supported values: "LeastAllocated", "MostAllocated", '
            '"RequestedToCapacityRatio"',
        ),
        (
            {"profiles": [{"pluginConfig": [{"name": "PodTopologySpread", "args": {"defaultConstraints": [
                {"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "Never"}], "defaultingType": "List"}}]}]},
            "defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
        ),
        (
            {"profiles": [{"pluginConfig": [{"name": "DefaultPreemption", "args": {
                "minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": 0}}]}]},
            f"{BOTH}cannot be zero at the same time as minCandidateNodesAbsolute",
        ),
        (
            {"extenders": [{"urlPrefix": "http://x", "prioritizeVerb": "p"}]},
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            {"extenders": [{"urlPrefix": "http://x", "bindVerb": "b"}, {"urlPrefix": "http://y", "bindVerb": "b"}]},
            "only one extender can implement bind",
        ),
        ({"leaderElection": {"resourceLock": "endpoints"}}, 'resourceLock value must be "leases"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_upstream_says_it(config: Any, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**config)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        ({"filter": {"enabled": [{"name": "ImageLocality"}]}}, 'plugin "ImageLocality" does not extend filter plugin'),
        ({"score": {"enabled": [{"name": "Magic"}]}}, 'plugin "Magic" does not exist'),
        ({"bind": {"disabled": [{"name": "*"}]}}, "at least one bind plugin is needed"),
        ({"queueSort": {"disabled": [{"name": "*"}]}}, "exactly one queue sort plugin is needed"),
    ],
)
def test_plugins_that_can_not_be_had_there(plugins: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        built(plugins=plugins)


def test_the_file_sets_flags_and_the_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"apiVersion: {API_VERSION}\nkind: {file.KIND}\n"
        "clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf}\n"
        "leaderElection: {leaderElect: false, leaseDuration: 30s}\n"
    )
    options = parse([f"--config={path}"])
    assert options.flags["kubeconfig"] == "/etc/kubernetes/scheduler.conf"
    assert options.flags["leader-elect"] is False
    assert options.flags["leader-elect-lease-duration"] == 30.0
    path.write_text(f"apiVersion: {API_VERSION}\nkind: {file.KIND}\nparallelism: -1\n")
    with pytest.raises(SettingsError, match=f"{path}: invalid configuration: parallelism"):
        parse([f"--config={path}"])


async def test_the_configuration_is_written_with_its_defaults_and_can_be_read_again(tmp_path: Path) -> None:
    written = tmp_path / "written.json"
    given = tmp_path / "config.yaml"
    given.write_text(
        f"apiVersion: {API_VERSION}\nkind: {file.KIND}\npodMaxBackoffSeconds: 60\n"
        "profiles: [{plugins: {score: {disabled: [{name: ImageLocality}]}}}]\n"
    )
    await serve(parse([f"--config={given}", f"--write-config-to={written}", "--master=http://127.0.0.1:1"]))
    again = parse([f"--config={written}"]).settings
    assert again.max_backoff_seconds == 60.0
    assert again.shown == parse([f"--config={given}"]).settings.shown
    args = {config["name"]: config["args"] for config in again.shown["profiles"][0]["pluginConfig"]}
    assert args["NodeResourcesFit"]["scoringStrategy"]["type"] == "LeastAllocated"
    enabled = again.shown["profiles"][0]["plugins"]["multiPoint"]["enabled"]
    assert {"name": "TaintToleration", "weight": 3} in enabled


def test_without_a_file_there_is_one_profile() -> None:
    assert [profile.name for profile in defaults().profiles] == ["default-scheduler"]
    assert defaults().max_backoff_seconds == 10.0
