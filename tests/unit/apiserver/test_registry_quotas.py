"""Limits and quotas for the objects of a namespace."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import quotas

_AT = "spec.limits[0]"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"min": "3", "max": "2"}, f'{_AT}.min[cpu]: Invalid value: "3": min value 3 is greater than max value 2'),
        (
            {"min": "3", "defaultRequest": "2"},
            f'{_AT}.defaultRequest[cpu]: Invalid value: "2": min value 3 is greater than default request value 2',
        ),
        (
            {"max": "1", "defaultRequest": "2"},
            f'{_AT}.defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than max value 1',
        ),
        (
            {"default": "1", "defaultRequest": "2"},
            f'{_AT}.defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit '
            "value 1",
        ),
        (
            {"min": "3", "default": "2"},
            f'{_AT}.default[cpu]: Invalid value: "3": min value 3 is greater than default value 2',
        ),
        (
            {"max": "1", "default": "2"},
            f'{_AT}.default[cpu]: Invalid value: "1": default value 2 is greater than max value 1',
        ),
        (
            {"min": "1", "max": "2", "maxLimitRequestRatio": "3"},
            f'{_AT}.maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000',
        ),
    ],
)
def test_limits_agree(limits: dict[str, str], told: str) -> None:
    item: dict[str, Any] = {"type": "Container", **{part: {"cpu": amount} for part, amount in limits.items()}}
    (error,) = quotas.limit_range({"spec": {"limits": [item]}})
    assert str(error) == told


def quota(hard: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "1"}, "spec": {"hard": {hard: "1"}, **spec}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (quota("pods", scopes=["BestEffort"]), []),
        (quota("requests.cpu", scopes=["Terminating"]), []),
        (
            quota("requests.storage", scopes=["Terminating"]),
            ['spec.scopes: Invalid value: ["Terminating"]: unsupported scope applied to resource'],
        ),
        (
            quota("pods", scopes=["Odd"]),
            ['spec.scopes: Invalid value: ["Odd"]: unsupported scope'],
        ),
        (
            quota("cpu", scopeSelector={"matchExpressions": [{"scopeName": "BestEffort", "operator": "Exists"}]}),
            [
                'spec.scopeSelector.matchExpressions: Invalid value: {"MatchExpressions":[{"ScopeName":"BestEffort",'
                '"Operator":"Exists","Values":null}]}: unsupported scope applied to resource'
            ],
        ),
        (
            quota(
                "pods",
                scopeSelector={
                    "matchExpressions": [
                        {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]},
                    ]
                },
            ),
            [
                'spec.scopeSelector.matchExpressions.values: Invalid value: ["a"]: must be no value when `operator` is '
                "'Exist' or 'DoesNotExist' for scope selector"
            ],
        ),
    ],
)
def test_scopes(given: dict[str, Any], told: list[str]) -> None:
    assert [str(error) for error in quotas.quota(given)] == told


def test_scopes_stay_and_their_selector_may_change() -> None:
    selector = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}
    assert quotas.quota_update(quota("pods", scopeSelector=selector), quota("pods")) == []
    (error,) = quotas.quota_update(quota("pods"), quota("pods", scopes=["BestEffort"]))
    assert str(error) == "spec.scopes: Invalid value: null: field is immutable"
