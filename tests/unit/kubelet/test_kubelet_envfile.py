"""Variables from files that init containers wrote; what the downward API says of limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubelet_values import pod, sized

from agent.kubelet.container import envfile
from agent.kubelet.container.errors import ContainerConfigError
from agent.kubelet.pods import fieldref
from agent.kubelet.pods.fieldref import PodFacts
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import quantity
from machinery.api.meta import Object

TEXT = """
# a comment
A='one' # and what it is for
  B='two
lines'
C= 'not given'
"""


@pytest.mark.parametrize(("key", "value"), [("A", "one"), ("B", "two\nlines"), ("C", ""), ("D", None)])
def test_variables_of_a_file(key: str, value: str | None) -> None:
    assert envfile.parse(TEXT, key) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A", "at line 1: missing '='"),
        ("\n='x'", "at line 2: empty variable name"),
        ("A ='x'", "whitespace before '='"),
        ("A=x", "value must be enclosed in single quotes"),
        ("A='x", "starting at line 1: unclosed single quote"),
        ("A='x' y", "unexpected content after closing quote"),
    ],
)
def test_files_that_are_no_such_files(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        envfile.parse(text, "Z")


def reference(**fields: object) -> Object:
    return {"volumeName": "v", "path": "app.env", "key": "A", **fields}


def test_values_come_from_the_volume_and_from_nowhere_else(tmp_path: Path) -> None:
    volumes = {"v": MountedVolume("v", str(tmp_path / "v"))}
    (tmp_path / "v").mkdir()
    with pytest.raises(ContainerConfigError, match="couldn't parse env file: failed to open environment variable file"):
        envfile.value_of(reference(), volumes)
    assert envfile.value_of(reference(optional=True), volumes) is None
    (tmp_path / "v/app.env").write_text(TEXT)
    assert envfile.value_of(reference(), volumes) == "one"
    with pytest.raises(ContainerConfigError, match='environment variable key "Z" not found in file'):
        envfile.value_of(reference(key="Z"), volumes)
    assert envfile.value_of(reference(key="Z", optional=True), volumes) is None
    (tmp_path / "secret").write_text("A='secret'")
    (tmp_path / "v/out").symlink_to(tmp_path / "secret")
    with pytest.raises(ContainerConfigError, match="couldn't parse env file"):
        envfile.value_of(reference(path="out"), volumes)
    with pytest.raises(ContainerConfigError, match='cannot find the volume "w"'):
        envfile.value_of(reference(volumeName="w"), volumes)


def test_a_limit_that_is_not_set_is_the_pods_or_the_nodes() -> None:
    facts = PodFacts("n", allocatable={"cpu": quantity.parse("8"), "hugepages-2Mi": quantity.parse("4Mi")})
    own = sized(requests={"cpu": "1"})

    def limit(of_pod: Object, resource: str) -> str:
        return fieldref.resource_field(of_pod, own, {"resource": resource}, facts)

    assert limit(pod(own), "limits.cpu") == "8"
    assert limit(pod(own, resources={"limits": {"cpu": "2"}}), "limits.cpu") == "2"
    assert limit(pod(own), "limits.hugepages-2Mi") == "0"
