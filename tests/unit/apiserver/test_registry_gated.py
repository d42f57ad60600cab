"""Fields of features that are off."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.apiserver.registry import gated
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

POD_SPEC: Object = {
    "schedulingGroup": {"podGroupName": "g"},
    "containers": [
        {"name": "a", "lifecycle": {"stopSignal": "SIGUSR1"}},
        {"name": "b", "lifecycle": {"stopSignal": "SIGUSR1", "preStop": {"sleep": {"seconds": 1}}}},
    ],
    "volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}, {"secret": {}}]}}],
}
LEFT: Object = {
    "containers": [{"name": "a"}, {"name": "b", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}],
    "volumes": [{"name": "v", "projected": {"sources": [{}, {"secret": {}}]}}],
}


def _in(spec: Object, *path: str) -> Object:
    for key in reversed(path):
        spec = {key: spec}
    return spec


def _pods() -> list[tuple[ResourceType, Any, Any]]:
    template = ("spec", "template", "spec")
    where: list[tuple[ResourceType, tuple[str, ...]]] = [
        (catalogue.PODS, ("spec",)),
        (catalogue.PODTEMPLATES, ("template", "spec")),
        (catalogue.CRONJOBS, ("spec", "jobTemplate", *template)),
        (catalogue.STATEFULSETS, template),
        (catalogue.DEPLOYMENTS, template),
    ]
    return [(resource, _in(POD_SPEC, *path), _in(LEFT, *path)) for resource, path in where]


def _of(spec: Object) -> Object:
    return {"spec": spec}


CASES = [
    *_pods(),
    (
        catalogue.LEASES,
        _of({"strategy": "OldestEmulationVersion", "preferredHolder": "x", "holderIdentity": "y"}),
        _of({"holderIdentity": "y"}),
    ),
    (
        catalogue.STATEFULSETS,
        _of({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2, "partition": 0}}}),
        _of({"updateStrategy": {"rollingUpdate": {"partition": 0}}}),
    ),
    (
        catalogue.PERSISTENTVOLUMECLAIMS,
        _of({"dataSourceRef": {"kind": "VolumeSnapshot", "name": "s", "namespace": "other"}}),
        _of({}),
    ),
    (catalogue.CSIDRIVERS, _of({"preventPodSchedulingIfMissing": True}), _of({})),
    (
        catalogue.RESOURCESLICES,
        _of({"devices": [{"name": "d", "attributes": {"a": {"ints": [1]}, "b": {"int": 1}}}]}),
        _of({"devices": [{"name": "d", "attributes": {"a": {}, "b": {"int": 1}}}]}),
    ),
    (
        catalogue.CONFIGMAPS,
        {"data": {"strategy": "x"}},
        {"data": {"strategy": "x"}},
    ),
]


@pytest.mark.parametrize(("resource", "sent", "left"), CASES)
def test_what_is_new_is_dropped_and_what_is_there_stays(resource: ResourceType, sent: Object, left: Object) -> None:
    created = copy.deepcopy(sent)
    gated.drop(resource, created, None)
    assert created == left
    updated = copy.deepcopy(sent)
    gated.drop(resource, updated, sent)
    assert updated == sent
    gated.drop(resource, updated, left)
    assert updated == left


def test_sources_of_the_same_namespace_stay() -> None:
    claim = _of({"dataSourceRef": {"kind": "VolumeSnapshot", "name": "s"}})
    gated.drop(catalogue.PERSISTENTVOLUMECLAIMS, claim, None)
    assert "dataSourceRef" in claim["spec"]
