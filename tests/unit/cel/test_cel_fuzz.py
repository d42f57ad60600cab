"""Whatever is written as an expression, the answer is a value or an error of CEL's own."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from machinery.cel.declarations import scope_of
from machinery.cel.environment import compile_program
from machinery.cel.errors import CelError

SCOPE = scope_of("object")
VALUE = {"a": 1, "b": "text", "c": [1, "x", None, {"d": 1.5}], "e": {"f": True}, "g": None}
_WORDS = """
object . a b c e [ ] ( ) { } , : ? ?. && || ! - + * / % == != < <= in 0 1 2u 1.5 'x' "" r'\\' b'x' true null has
size map
filter all exists x matches startsWith contains split join format type int string double bool dyn duration timestamp
quantity ip cidr url semver sets.contains optional.of .orValue hasValue value cel.bind transformMap sortBy max indexOf
substring replace find isSorted `a` 9223372036854775807 //
"""
WORDS = st.sampled_from([*_WORDS.split(), "\n"])
ARGUMENTS = ["object.a", "object.b", "object.c", "'('", "-1", "99", "x", "[]", "{}", "null", "1.5"]
CALLS = st.builds(
    lambda function, args: f"{function}({', '.join(args)})",
    st.sampled_from(
        ["size", "int", "string", "ip", "cidr", "quantity", "url", "semver", "timestamp", "duration", "'a,b'.split",
         "object.c.map", "object.c.all", "'x'.matches", "'abc'.substring", "'%s'.format", "[1, 2].slice", "math.max",
         "object.c.sortBy", "'aa'.replace", "object.b.find", "object.c.indexOf", "lists.range", "sets.equivalent"]
    ),
    st.lists(st.sampled_from(ARGUMENTS), max_size=3),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=14).map(" ".join), CALLS))
def test_any_text_compiles_or_is_refused_and_runs_or_fails(text: str) -> None:
    with suppress(CelError):
        program = compile_program(text, SCOPE)
        program.cost()
        program.evaluate({"object": VALUE})
