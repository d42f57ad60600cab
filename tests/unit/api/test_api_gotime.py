"""Moments as Go's time.Parse reads them."""

from __future__ import annotations

import pytest

from machinery.api import gotime


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("2024-02-29T10:11:12Z", "2024-02-29T10:11:12Z"),
        ("2024-02-29T10:11:12.9Z", "2024-02-29T10:11:12Z"),
        ("2024-02-29T10:11:12,123456789Z", "2024-02-29T10:11:12Z"),
        ("2024-02-29T1:11:12Z", "2024-02-29T01:11:12Z"),
        ("2024-02-29T10:11:12+01:30", "2024-02-29T08:41:12Z"),
        ("2024-02-29T10:11:12-24:00", "2024-03-01T10:11:12Z"),
    ],
)
def test_times(given: str, made: str) -> None:
    assert gotime.canonical(given, micro=False) == made


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2023-02-29T10:11:12Z", ": day out of range"),
        ("2023-02-45T25:11:12Z", ": hour out of range"),
        ("2023-02-45T23:11:12Z", ": day out of range"),
        ("2024-02-29T10:11:12+25:00", ": time zone offset hour out of range"),
        ("2024-02-29T10:11:12Zx", ': extra text: "x"'),
        ("2024-02-29 10:11:12Z", ' as "2006-01-02T15:04:05Z07:00": cannot parse " 10:11:12Z" as "T"'),
        ("2024-02-29T10:11:12", ' as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"'),
    ],
)
def test_no_times(given: str, told: str) -> None:
    with pytest.raises(ValueError, match="parsing time") as caught:
        gotime.canonical(given, micro=False)
    assert str(caught.value) == f'parsing time "{given}"{told}'


def test_micro_times_have_six_digits() -> None:
    assert gotime.canonical("2024-02-29T10:11:12.123456Z", micro=True) == "2024-02-29T10:11:12.123456Z"
    assert gotime.canonical("2024-02-29T10:11:12.000001+01:00", micro=True) == "2024-02-29T09:11:12.000001Z"
    for end, rest, element in [("", "Z", ".000000"), (".123", ".123Z", ".000000"), (".1234567", "7Z", "Z07:00")]:
        given = f"2024-02-29T10:11:12{end}Z"
        with pytest.raises(ValueError, match="parsing time") as caught:
            gotime.canonical(given, micro=True)
        layout = "2006-01-02T15:04:05.000000Z07:00"
        assert str(caught.value) == f'parsing time "{given}" as "{layout}": cannot parse "{rest}" as "{element}"'
