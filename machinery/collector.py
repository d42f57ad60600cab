"""How often Python's collector of cyclic garbage looks at a component's objects.

What a component lists at its start are a million small objects that live long and are in no cycle: to walk them again
and again finds nothing, and takes more time than to read them.

Source: CPython, "gc — Garbage Collector interface".
"""

from __future__ import annotations

import gc

_LOADING = (200_000, 50, 1_000)  # while everything that is made stays
_WORKING = (20_000, 20, 50)


def loading() -> None:
    """Look seldom, until `settled` is called: a component starts."""
    gc.set_threshold(*_LOADING)


def settled() -> None:
    """Leave alone what is there now, and look at the rest as often as a server that works should."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_WORKING)
    gc.enable()
