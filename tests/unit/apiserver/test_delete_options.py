"""Options of deletes, as upstream checks them (meta/v1/validation: ValidateDeleteOptions)."""

from __future__ import annotations

import pytest

from controlplane.apiserver.handlers import options
from machinery.api.meta import Object
from machinery.errors import BadRequest, Invalid


def _causes(given: Object) -> list[str]:
    with pytest.raises(Invalid) as caught:
        options.checked_delete_options(given)
    assert caught.value.details is not None
    causes = caught.value.details["causes"]
    return [f"{cause['field']}: {cause['message']}" for cause in causes]


def test_orphaning_and_propagation_told_twice() -> None:
    causes = _causes({"orphanDependents": True, "propagationPolicy": "Odd"})
    told = "orphanDependents and deletionPropagation cannot be both set"
    assert causes == [
        f'propagationPolicy: Invalid value: "Odd": {told}',
        'propagationPolicy: Unsupported value: "Odd": supported values: "Foreground", "Background", "Orphan", "nil"',
    ]


def test_unreadable_objects_are_deleted_with_no_other_option() -> None:
    name = "ignoreStoreReadErrorWithClusterBreakingPotential"
    causes = _causes({name: True, "dryRun": ["All"], "gracePeriodSeconds": 0, "preconditions": {"uid": "x"}})
    told = f"{name}: Invalid value: true: cannot be set together with"
    assert causes == [f"{told} .dryRun", f"{told} .gracePeriodSeconds", f"{told} .preconditions"]
    assert options.checked_delete_options({name: False, "gracePeriodSeconds": 3}).grace_seconds == 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"gracePeriodSeconds": 1.5}, "number 1.5 into Go struct field DeleteOptions.gracePeriodSeconds of type int64"),
        (
            {"gracePeriodSeconds": 2**63},
            f"number {2**63} into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
        ({"orphanDependents": 1}, "number into Go struct field DeleteOptions.orphanDependents of type bool"),
        ({"dryRun": [1]}, "number into Go struct field DeleteOptions.dryRun of type string"),
    ],
)
def test_options_of_the_wrong_type(given: Object, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        options.checked_delete_options(given)
    assert str(caught.value) == f"json: cannot unmarshal {told}"


def test_null_is_no_dry_run() -> None:
    assert _causes({"dryRun": [None]}) == ['dryRun: Unsupported value: [""]: supported values: "All"']
