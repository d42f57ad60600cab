"""Users' own plugins: the worked example of docs/scheduler-plugins.md, and what happens to plugins that misbehave."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scheduler_profiles import profile
from test_scheduler_plugins import Cluster, node, pod

from controlplane.scheduler.framework import Profile, Scope
from controlplane.scheduler.outoftree import Adapted, PluginFailed
from machinery.errors import SettingsError

DOCUMENT = Path(__file__).parents[3] / "docs" / "scheduler-plugins.md"
PRICE = "example.com/cents-per-hour"


@pytest.fixture
def thrift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of the document, importable."""
    source = re.search(r"```python\n(# thrift\.py\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert source is not None
    (tmp_path / "thrift.py").write_text(source.group(1))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("thrift", None)


def with_plugin(args: dict[str, Any], name: str = "Thrift") -> Profile:
    return profile(
        plugins={"multiPoint": {"enabled": [{"name": name, "weight": 5}]}},
        pluginConfig=[{"name": name, "args": args}],
    )


def batch(name: str) -> dict[str, Any]:
    made = pod(name)
    made["metadata"]["namespace"] = "batch"
    return made


@pytest.mark.usefixtures("thrift")
def test_the_example_of_the_document() -> None:
    nodes = (
        node("dear", labels={PRICE: "80"}),
        node("cheap", labels={PRICE: "20"}),
        node("fair", labels={PRICE: "21"}),
    )
    cluster = Cluster(*nodes, profile=with_plugin({"plugin": "thrift:Thrift", "limit": 20}))
    assert cluster.where(pod("p")) == {"dear", "cheap", "fair"}
    assert cluster.where(batch("b")) == {"cheap"}
    assert cluster.best(pod("p")) == "cheap"
    cluster.nodes.remove_node("cheap")
    assert cluster.best(pod("q")) == "fair"
    assert cluster.why(batch("b")) == "0/2 nodes are available: 2 node(s) were too expensive for batch work."


@pytest.mark.usefixtures("thrift")
def test_a_plugin_of_an_installed_package(tmp_path: Path) -> None:
    installed = tmp_path / "thrift-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: thrift\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[navarch.scheduler.plugins]\nThrift = thrift:Thrift\n")
    cluster = Cluster(node("a", labels={PRICE: "9"}), node("b"), profile=with_plugin({}))
    assert cluster.best(pod("p")) == "b"


@pytest.mark.usefixtures("thrift")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, 'plugin "Thrift" does not exist'),
        ({"plugin": "no_such_module:Thrift"}, 'loading plugin "Thrift" from no_such_module:Thrift'),
        ({"plugin": "thrift:Nothing"}, 'loading plugin "Thrift" from thrift:Nothing'),
        ({"plugin": "thrift:Thrift", "limit": "a lot"}, 'initializing plugin "Thrift": invalid literal'),
        ({"plugin": "builtins:dict"}, 'plugin "Thrift" has neither filter nor score'),
    ],
)
def test_a_plugin_that_can_not_be_had(args: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        with_plugin(args)


class Misbehaving:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def score(self, pod: Any, nodes: Any) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.array([101, 0]), 'plugin "Bad" returns an invalid score 101, it should in the range of [0, 100]'),
        (np.array([0, -1]), "returns an invalid score -1"),
        (np.array([1]), "score gave an array of shape (1,), not (2,)"),
    ],
)
def test_answers_that_are_none(answer: Any, message: str) -> None:
    bad = Profile("p", scores=[(Adapted(Misbehaving(answer), "Bad"), 1)])
    with pytest.raises(PluginFailed, match=re.escape(message)):
        Cluster(node("a"), node("b"), profile=bad).best(pod("p"))


def test_a_plugin_that_raises_is_named() -> None:
    class Broken:
        def filter(self, pod: Any, nodes: Any) -> Any:
            return 1 / 0

    broken = Profile("p", filters=[Adapted(Broken(), "Broken")])
    with pytest.raises(PluginFailed, match='running filter of plugin "Broken": ZeroDivisionError: division by zero'):
        Cluster(node("a"), profile=broken).where(pod("p"))


def test_what_depends_on_the_node_alone_is_asked_once_for_each() -> None:
    asked: list[int] = []

    class Counting:
        scope = Scope.NODE
        reason = "node(s) were odd"

        def filter(self, pod: Any, nodes: Any) -> Any:
            asked.append(len(nodes))
            return np.array([name.endswith(("0", "2", "4")) for name in nodes.names.tolist()])

    counting = Profile("p", filters=[Adapted(Counting(), "Counting")])
    cluster = Cluster(*(node(f"n{i}") for i in range(5)), profile=counting)
    for _ in range(3):
        assert cluster.where(pod("p")) == {"n0", "n2", "n4"}
    cluster.nodes.set_node(node("n6"))
    assert cluster.where(pod("p")) == {"n0", "n2", "n4"}
    assert asked == [5, 1]


def test_what_a_plugin_can_read() -> None:
    seen: dict[str, Any] = {}

    class Reading:
        def filter(self, pod: Any, nodes: Any) -> Any:
            seen["names"] = nodes.names.tolist()
            seen["cpu"] = (nodes.allocatable("cpu") - nodes.requested("cpu")).tolist()
            seen["unknown"] = nodes.allocatable("example.com/none").tolist()
            seen["web"] = nodes.pods({"matchLabels": {"app": "web"}}, "default").tolist()
            seen["ssd"] = nodes.matches("disk", "In", ["ssd"]).tolist()
            seen["objects"] = [each["metadata"]["name"] for each in nodes.objects]
            return np.ones(len(nodes), np.bool_)

    cluster = Cluster(
        node("a", labels={"disk": "ssd"}), node("b"), profile=Profile("p", filters=[Adapted(Reading(), "R")])
    )
    cluster.put(pod("w", cpu="1", labels={"app": "web"}), "b")
    cluster.where(pod("p"))
    assert seen == {
        "names": ["a", "b"],
        "cpu": [4000, 3000],
        "unknown": [0, 0],
        "web": [0, 1],
        "ssd": [True, False],
        "objects": ["a", "b"],
    }
