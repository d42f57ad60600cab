"""Sets of fields behave as sets of paths."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from machinery.api.patch import fieldset

PATHS = st.lists(st.lists(st.sampled_from(["f:a", "f:b", "f:c"]), min_size=1, max_size=3), max_size=8)


def as_set(listed: list[list[str]]) -> fieldset.FieldSet:
    made: fieldset.FieldSet = {}
    for path in listed:
        node: fieldset.FieldSet = fieldset.LEAF
        for element in reversed(path):
            node = {element: node}
        made = fieldset.union(made, node)
    return made


@given(PATHS, PATHS)
def test_sets_of_fields_behave_as_sets_of_paths(one: list[list[str]], other: list[list[str]]) -> None:
    def paths(fields: fieldset.FieldSet) -> set[str]:
        found = fieldset.paths(fields)
        assert len(found) == len(set(found))
        return set(found)

    a, b = as_set(one), as_set(other)
    assert paths(a) == {"".join("." + e[2:] for e in p) for p in one}
    assert paths(fieldset.union(a, b)) == paths(a) | paths(b)
    assert paths(fieldset.difference(a, b)) == paths(a) - paths(b)
    assert paths(fieldset.intersection(a, b)) == paths(a) & paths(b)
    gone = {p for p in paths(a) if any(p == q or p.startswith(q + ".") for q in paths(b))}
    assert paths(fieldset.recursive_difference(a, b)) == paths(a) - gone
    assert fieldset.sort(a) == a
