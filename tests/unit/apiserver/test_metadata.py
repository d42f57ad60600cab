"""Rules of metadata that differ between kinds."""

import pytest

from controlplane.apiserver.handlers import metadata


@pytest.mark.parametrize(
    ("group", "custom", "refused"),
    [
        ("", False, True),
        ("apps", False, True),
        ("coordination.k8s.io", False, False),
        ("fleet.example.com", True, False),
    ],
)
def test_finalizers_without_a_domain(group: str, custom: bool, refused: bool) -> None:
    given = {"finalizers": ["orphan", "mine", "fleet.example.com/mine"]}
    errors = metadata.finalizer_names(given, group, custom=custom)
    assert [error.field for error in errors] == (["metadata.finalizers[1]"] if refused else [])
