"""Extended resources that device classes stand behind: which class, and what the special claim asks for."""

from typing import Any

import pytest

from controlplane.scheduler.dynamic.extended import asked, mapping

Object = dict[str, Any]


def device_class(name: str, resource: str | None = None, created: str = "2026-01-01T00:00:00Z") -> Object:
    spec = {"extendedResourceName": resource} if resource else {}
    return {"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}


def test_the_youngest_class_stands_behind_a_resource() -> None:
    classes = [
        device_class("b", "example.com/gpu"),
        device_class("a", "example.com/gpu"),
        device_class("old", "example.com/gpu", "2025-01-01T00:00:00Z"),
        device_class("c", "example.com/nic"),
    ]
    found = {name: each["metadata"]["name"] for name, each in mapping(classes).items()}
    implicit = {f"deviceclass.resource.kubernetes.io/{name}": name for name in ("a", "b", "c", "old")}
    assert found == implicit | {"example.com/gpu": "a", "example.com/nic": "c"}
    younger = device_class("z", "example.com/gpu", "2026-01-01T00:00:01Z")
    assert mapping([*classes, younger])["example.com/gpu"] is younger


def container(name: str, gpus: str = "", nics: str = "", **more: Any) -> Object:
    given = {"cpu": "1", "example.com/gpu": gpus, "example.com/nic": nics}
    return {"name": name, "resources": {"requests": {k: v for k, v in given.items() if v}}, **more}


GPU, NIC = "example.com/gpu", "example.com/nic"


@pytest.mark.parametrize(
    ("starting", "running", "requests", "uses"),
    [
        ([], [container("a", "2")], {"container-0-request-1": 2}, [("a", GPU, "container-0-request-1")]),
        ([], [container("a"), container("b", "0")], {}, []),
        (
            [],
            [container("a", "2", "1"), container("b", nics="3")],
            {"container-0-request-1": 2, "container-0-request-2": 1, "container-1-request-1": 3},
            [
                ("a", GPU, "container-0-request-1"),
                ("a", NIC, "container-0-request-2"),
                ("b", NIC, "container-1-request-1"),
            ],
        ),
        # An init container uses what the containers after it have…
        (
            [container("i", "1")],
            [container("a", "2")],
            {"container-1-request-1": 2},
            [("a", GPU, "container-1-request-1"), ("i", GPU, "container-1-request-1")],
        ),
        # … and asks for the rest.
        (
            [container("i", "3")],
            [container("a", "2")],
            {"container-0-request-1": 1, "container-1-request-1": 2},
            [
                ("a", GPU, "container-1-request-1"),
                ("i", GPU, "container-1-request-1"),
                ("i", GPU, "container-0-request-1"),
            ],
        ),
        # Init containers run one after the other: the neediest one's request serves all.
        (
            [container("i", "1"), container("j", "3"), container("k", "2")],
            [container("a")],
            {"container-1-request-1": 3},
            [(name, GPU, "container-1-request-1") for name in ("i", "j", "k")],
        ),
        # A sidecar keeps its own; only those before it can use them.
        (
            [container("i", "1"), container("s", "1", restartPolicy="Always"), container("j", "1")],
            [container("a")],
            {"container-1-request-1": 1, "container-2-request-1": 1},
            [
                ("s", GPU, "container-1-request-1"),
                ("i", GPU, "container-1-request-1"),
                ("j", GPU, "container-2-request-1"),
            ],
        ),
    ],
)
def test_what_containers_ask_for(
    starting: list[Object], running: list[Object], requests: dict[str, int], uses: list[tuple[str, str, str]]
) -> None:
    found = asked({"initContainers": starting, "containers": running}, {NIC: "nics", GPU: "gpus"})
    assert {each["name"]: each["exactly"]["count"] for each in found.requests} == requests
    assert [tuple(m[p] for p in ("containerName", "resourceName", "requestName")) for m in found.mappings] == uses
    classes = {each["exactly"]["deviceClassName"] for each in found.requests}
    assert classes == {{GPU: "gpus", NIC: "nics"}[resource] for _, resource, _ in uses}
