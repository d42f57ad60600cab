import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machinery.api import quantity


@pytest.mark.parametrize(
    ("written", "printed", "value", "millis"),
    [
        ("0", "0", 0, 0),
        ("0.5", "500m", 1, 500),
        ("1000m", "1", 1, 1000),
        ("1000", "1k", 1000, 1_000_000),
        ("1500", "1500", 1500, 1_500_000),
        ("1.5m", "1500u", 1, 2),
        ("0.1n", "1n", 1, 1),
        ("-0.1n", "-1n", -1, -1),
        ("12e6", "12e6", 12_000_000, 12_000_000_000),
        ("1200e4", "12e6", 12_000_000, 12_000_000_000),
        ("1e-400", "1e-9", 1, 1),
        ("1024Mi", "1Gi", 1 << 30, 1000 << 30),
        ("1.5Gi", "1536Mi", 3 << 29, 3000 << 29),
        ("1000Ki", "1000Ki", 1024000, 1024000000),
        ("0.1Mi", "104857600m", 104858, 104857600),
        ("0.0001Ki", "102400u", 1, 103),
        ("16Ei", "9223372036854775807", 2**63 - 1, (2**63 - 1) * 1000),
        ("1000E", "1e21", 10**21, 10**24),
        (1, "1", 1, 1000),
        (1.5, "1500m", 2, 1500),
        ("1.234", "1.234", 2, 1234),
    ],
)
def test_a_quantity_prints_canonically_and_rounds_up(
    written: str | int | float, printed: str, value: int, millis: int
) -> None:
    amount = quantity.parse(written)
    assert (amount.canonical(), amount.value(), amount.milli_value()) == (printed, value, millis)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", quantity.FORMAT_WRONG),
        ("lots", quantity.FORMAT_WRONG),
        ("1 Gi", quantity.FORMAT_WRONG),
        ("1.2.3", quantity.FORMAT_WRONG),
        ("1KiB", quantity.FORMAT_WRONG),
        ("1mm", "unable to parse quantity's suffix"),
        ("1e", "unable to parse quantity's suffix"),
        ("1e999999999", "unable to parse quantity's suffix"),
    ],
)
def test_what_is_no_quantity_is_refused_in_upstreams_words(written: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        quantity.parse(written)


def test_amounts_compare_and_hash_by_size_alone() -> None:
    assert quantity.parse("1000m") == quantity.parse("1") == quantity.parse("1e0")
    assert len({quantity.parse("1Gi"), quantity.parse("1024Mi")}) == 1
    assert quantity.parse("1G") < quantity.parse("1Gi")


def test_a_sum_keeps_the_format_of_what_it_started_from() -> None:
    assert str(quantity.parse("1Gi") + quantity.parse("1Gi")) == "2Gi"
    assert str(quantity.ZERO + quantity.parse("1Gi")) == "1Gi"
    assert str(quantity.parse("1Gi") - quantity.parse("512Mi")) == "512Mi"
    assert str(quantity.parse("100m") * 15) == "1500m"
    assert str(quantity.of_milli(2000)) == "2"


@given(st.integers(-(10**17), 10**17), st.sampled_from(["n", "u", "m", "", "k", "M", "Ki", "Mi", "e3", "e-6"]))
def test_what_is_printed_reads_as_the_same_amount(number: int, suffix: str) -> None:
    amount = quantity.parse(f"{number}{suffix}")
    again = quantity.parse(quantity.Quantity(amount.nanos, amount.format).canonical())
    assert again == amount


def test_what_no_float_can_hold_is_infinite() -> None:
    assert (quantity.parse("9" * 400).as_float(), quantity.parse("-" + "9" * 400).as_float()) == (math.inf, -math.inf)
