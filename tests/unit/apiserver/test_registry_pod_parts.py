"""Changes of pods through their subresources, and reports about them."""

import copy
from typing import Any

import pytest

from controlplane.apiserver.handlers.parts import RULES
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.validation import internal_forms, pod_parts
from machinery.api.catalogue import NAMESPACES, PODS
from machinery.api.meta import Object

REQUESTS: Object = {"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "200m"}}


def pod(*ephemeral: Object, **spec: Any) -> Object:
    containers = [{"name": "c", "image": "i", "resources": REQUESTS}, {"name": "d", "image": "i"}]
    made: Object = {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}
    if ephemeral:
        made["spec"]["ephemeralContainers"] = list(ephemeral)
    strategy_for(PODS).default(made)
    return made


DEBUGGER: Object = {"name": "dbg", "image": "busybox"}


@pytest.mark.parametrize(
    ("new", "old", "told"),
    [
        (pod(DEBUGGER), pod(), []),
        (
            pod(),
            pod(DEBUGGER),
            ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "dbg" may not be removed\n'],
        ),
        (
            pod(DEBUGGER | {"image": "other"}),
            pod(DEBUGGER),
            [
                'spec.ephemeralContainers: Forbidden: existing ephemeral containers "dbg" may not be changed\n'
                '@@ -1,6 +1,6 @@\n {\n  "Name": "dbg",\n- "Image": "busybox",\n+ "Image": "other",\n'
                '  "Command": null,\n  "Args": null,\n  "WorkingDir": "",\n'
            ],
        ),
        (pod({"name": "c", "image": "i"}), pod(), ['spec.ephemeralContainers[0].name: Duplicate value: "c"']),
        (
            pod(DEBUGGER | {"targetContainerName": "x"}),
            pod(),
            ['spec.ephemeralContainers[0].targetContainerName: Not found: "x"'],
        ),
        (
            pod(DEBUGGER | {"ports": [{"containerPort": 80}]}),
            pod(),
            ["spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"],
        ),
    ],
)
def test_ephemeral_containers_are_added_only(new: Object, old: Object, told: list[str]) -> None:
    assert [str(error) for error in pod_parts.ephemeral_update(new, old)] == told


def resized(old: Object, change: Any) -> list[str]:
    """What the resize subresource says to a change of this pod."""
    new = copy.deepcopy(old)
    change(new["spec"])
    rules = RULES[PODS, "resize"]
    rules.prepare(new, old, None)  # type: ignore[arg-type]
    return [str(error) for error in rules.validate(new, old)]


def in_first(**resources: Any) -> Any:
    return lambda spec: spec["containers"][0].update(resources=resources)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spec: None, []),
        (in_first(requests={"cpu": "150m", "memory": "2Mi"}, limits={"cpu": "1"}), []),
        (
            in_first(requests={"cpu": "150m"}, limits={"cpu": "200m"}),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        ),
        (
            in_first(requests=REQUESTS["requests"] | {"ephemeral-storage": "1"}, limits=REQUESTS["limits"]),
            ["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            lambda spec: spec["containers"][1].update(resources={"limits": {"ephemeral-storage": "1"}}),
            ["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (lambda spec: spec["containers"][1].update(resources={"limits": {"cpu": "1"}}), []),
        (
            lambda spec: spec["containers"].pop(),
            ["spec.containers: Forbidden: containers may not be added or removed on resize"],
        ),
        (
            lambda spec: spec["containers"].reverse(),
            [
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
                "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        ),
        (lambda spec: spec["containers"][0].update(image="other"), []),
    ],
)  # fmt: skip
def test_resizing_changes_cpu_and_memory_only(change: Any, told: list[str]) -> None:
    assert resized(pod(), change) == told


def test_a_pod_stays_in_its_class_of_service() -> None:
    plain: Object = {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    strategy_for(PODS).default(plain)
    (told,) = resized(plain, in_first(requests={"cpu": "1"}))
    assert told == 'spec: Invalid value: "": Pod QOS Class may not change as a result of resizing'


def test_a_resize_counts_as_a_change_and_leaves_the_rest() -> None:
    old = pod()
    old["metadata"]["generation"] = 3
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = {"x": "y"}
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "150m"
    RULES[PODS, "resize"].prepare(new, old, None)  # type: ignore[arg-type]
    assert new["metadata"] == {"name": "p", "generation": 4}
    assert new["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "150m"


@pytest.mark.parametrize(
    ("old", "told"),
    [
        (pod(os={"name": "windows"}), "windows pods cannot be resized"),
        (
            pod() | {"status": {"containerStatuses": [{"name": "c", "state": {"running": {}}}]}},
            "Pod running on node without support for resize",
        ),
    ],
)
def test_pods_that_can_not_be_resized(old: Object, told: str) -> None:
    assert told in "".join(resized(old, lambda spec: None))


def test_reports_keep_the_generations_they_know_nothing_of() -> None:
    ready = {"type": "Ready", "status": "True", "observedGeneration": 2}
    old = pod() | {"status": {"observedGeneration": 2, "conditions": [ready]}}
    new = pod() | {"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "X", "status": "True"}]}}
    strategy_for(PODS).prepare_status_update(new, old, None)  # type: ignore[arg-type]
    assert new["status"]["observedGeneration"] == 2
    assert [c.get("observedGeneration") for c in new["status"]["conditions"]] == [2, None]


def test_what_has_changed_is_shown_as_a_diff() -> None:
    assert internal_forms.difference({"a": 1, "b": 2}, {"a": 1, "b": 3}) == (
        '@@ -1,4 +1,4 @@\n {\n  "a": 1,\n- "b": 2\n+ "b": 3\n }'
    )


def test_finalizers_of_namespaces_are_names() -> None:
    rules = RULES[NAMESPACES, "finalize"]
    new = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes", "odd"]}}
    (error,) = rules.validate(new, new)
    assert str(error) == (
        'spec.finalizers[1]: Invalid value: "odd": name is neither a standard finalizer name nor is it fully qualified'
    )
