"""One atomic `nft -f -` script, put together in the order in which references stay valid.

Declarations come first, then emptied chains and removed elements, then rules and new elements, and what nothing
refers to any more is removed last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


class Transaction:
    """Collects changes to one table; `text` is the script."""

    def __init__(self, table: str, comment: str) -> None:
        """`table` is its family and name."""
        self._table = table
        self._comment = comment
        self._first: list[str] = []
        self._declared: list[str] = []
        self._emptied: list[str] = []
        self._redeclared: list[str] = []
        self._removed: dict[str, list[str]] = defaultdict(list)
        self._rules: list[str] = []
        self._added: dict[str, list[str]] = defaultdict(list)
        self._last: list[str] = []

    def __bool__(self) -> bool:
        parts = (self._first, self._declared, self._emptied, self._removed, self._rules, self._added, self._last)
        return any(parts)

    def add_table(self) -> None:
        """Make the table if it is not there."""
        self._first.append(f'add table {self._table} {{ comment "{self._comment}"; }}')

    def delete_table_first(self) -> None:
        """Begin by removing the table with all that is in it; it may be missing."""
        self._first[:0] = [f"add table {self._table}", f"delete table {self._table}"]

    def flush_all_chains(self) -> None:
        """Remove every rule of the table."""
        self._first.append(f"flush table {self._table}")

    def add_set(self, name: str, declaration: str) -> None:
        """Declare a set, or a map if the declaration has a value type."""
        self._declared.append(f"add {_kind(declaration)} {self._table} {name} {{ {declaration} }}")

    def flush_set(self, name: str, declaration: str) -> None:
        """Remove all elements of a set or map."""
        self._emptied.append(f"flush {_kind(declaration)} {self._table} {name}")

    def delete_set(self, name: str, declaration: str) -> None:
        """Remove a set or map that nothing refers to after this transaction."""
        self._last.append(f"delete {_kind(declaration)} {self._table} {name}")

    def replace_set(self, name: str, old: str, new: str) -> None:
        """Declare a set anew, its elements lost; only emptied chains may have referred to it."""
        self._redeclared.append(f"delete {_kind(old)} {self._table} {name}")
        self._redeclared.append(f"add {_kind(new)} {self._table} {name} {{ {new} }}")

    def add_chain(self, name: str, hook: str = "") -> None:
        """Declare a chain."""
        self._declared.append(f"add chain {self._table} {name}" + (f" {{ {hook} }}" if hook else ""))

    def set_rules(self, chain: str, rules: Iterable[str]) -> None:
        """Let these be the rules of a chain, in place of what it has."""
        self._emptied.append(f"flush chain {self._table} {chain}")
        self._rules += [f"add rule {self._table} {chain} {rule}" for rule in rules]

    def delete_chain(self, name: str) -> None:
        """Remove a chain that nothing refers to after this transaction."""
        self._emptied.append(f"flush chain {self._table} {name}")
        self._last.append(f"delete chain {self._table} {name}")

    def remove_element(self, name: str, key: str) -> None:
        """Remove an element that is there."""
        self._removed[name].append(key)

    def add_element(self, name: str, key: str, rest: str) -> None:
        """Add an element that is not there (or is removed by this same transaction)."""
        self._added[name].append(key + rest)

    def text(self) -> bytes:
        """The script, equal for equal changes."""
        lines = [*self._first, *self._declared, *self._emptied, *self._redeclared]
        lines += self._elements("delete", self._removed)
        lines += self._rules
        lines += self._elements("add", self._added)
        lines += self._last
        return "".join(line + "\n" for line in lines).encode()

    def _elements(self, verb: str, elements: dict[str, list[str]]) -> list[str]:
        return [
            f"{verb} element {self._table} {name} {{ {', '.join(sorted(items))} }}"
            for name, items in sorted(elements.items())
        ]


def _kind(declaration: str) -> str:
    return "map" if " : " in declaration else "set"
