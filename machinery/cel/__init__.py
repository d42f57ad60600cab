"""CEL, the Common Expression Language, with the functions that Kubernetes adds to it.

ast.py         what an expression is made of
lexer.py, parser.py, macros.py   from text to that
types.py       types, and what is assignable to what
environment.py  which variables and functions there are; compiles an expression into a Program
checker.py     whether the types fit, in cel-go's words
cost.py        how much an expression may cost at worst, as cel-go estimates it
evaluation.py, closures.py  from a checked expression to Python closures
values.py      values that JSON has not: unsigned integers, timestamps, durations, optionals, types
library/       the functions, one file a library

Why our own: docs/decisions/0042-our-own-cel.md.

Source: cel-spec (langdef.md); github.com/google/cel-go; k8s.io/apiserver/pkg/cel.
"""
