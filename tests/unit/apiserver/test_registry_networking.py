"""Ranges of service addresses."""

from __future__ import annotations

import pytest

from controlplane.apiserver.registry.validation import networking
from machinery.api.meta import Object


def cidrs(*ranges: str) -> Object:
    return {"spec": {"cidrs": list(ranges)}}


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        ([], ["spec.cidrs: Required value: at least one CIDR required"]),
        (["10.0.0.0/24", "fd00::/64"], []),
        (
            ["10.0.0.0/24", "10.1.0.0/24"],
            [
                'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/24","10.1.0.0/24"]}: may specify no more than one IP '
                "for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
            ],
        ),
        (
            ["10.0.0.0/24", "fd00::/64", "fd01::/64"],
            [
                'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/24","fd00::/64","fd01::/64"]}: '
                "may only hold up to 2 values"
            ],
        ),
        (
            ["10.0.0.1/24"],
            ['spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length'],
        ),
        (
            ["FD00::/64"],
            ['spec.cidrs[0]: Invalid value: "FD00::/64": must be in canonical form ("fd00::/64")'],
        ),
    ],
)
def test_service_cidr(ranges: list[str], told: list[str]) -> None:
    assert [str(error) for error in networking.service_cidr(cidrs(*ranges))] == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["10.0.0.0/24"], ["10.0.0.0/24"], []),
        (["10.0.0.0/24"], ["10.0.0.0/24", "fd00::/64"], []),
        (
            ["10.0.0.0/24"],
            ["10.1.0.0/24"],
            ['spec.cidrs[0]: Invalid value: "10.1.0.0/24": field is immutable'],
        ),
        (
            ["10.0.0.0/24", "fd00::/64"],
            ["10.0.0.0/24"],
            ['spec.cidrs: Invalid value: ["10.0.0.0/24"]: field is immutable'],
        ),
    ],
)
def test_service_cidr_update(before: list[str], after: list[str], told: list[str]) -> None:
    assert [str(error) for error in networking.service_cidr_update(cidrs(*after), cidrs(*before))] == told
