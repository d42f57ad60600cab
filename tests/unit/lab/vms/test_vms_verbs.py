"""Which verbs are about virtual machines."""

from __future__ import annotations

import pytest

from lab.arguments import parser
from lab.errors import LabError
from lab.layout import Layout
from lab.vms.verbs import carry_out, concerns

NOWHERE = Layout("there-is-none")


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("up", False),
        ("up --vms", True),
        ("vms inventory", True),
        ("down", False),
        ("status", False),
        ("enter w1 ls", False),
    ],
)
def test_only_what_says_so_without_such_a_lab(words: str, ours: bool) -> None:
    assert concerns(NOWHERE, parser().parse_args(words.split())) is ours


def test_the_inventory_of_no_lab_is_an_error_that_helps() -> None:
    with pytest.raises(LabError, match="navarch up --vms"):
        carry_out(NOWHERE, parser().parse_args(["vms", "inventory"]))


def test_a_provider_that_there_is_not_is_told_before_anything_is_made() -> None:
    with pytest.raises(LabError, match="no provider 'vmware'"):
        carry_out(NOWHERE, parser().parse_args(["up", "--vms", "--provider", "vmware"]))
    assert not NOWHERE.state.exists()
