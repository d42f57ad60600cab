"""How often Python's collector of cyclic garbage looks at a component's objects.

What a component lists at its start are a million small objects that live long and are in no cycle: to walk them again
and again finds nothing, and takes more time than to read them.

Source: CPython, "gc — Garbage Collector interface".
"""

from __future__ import annotations

import asyncio
import gc

_LOADING = (200_000, 50, 1_000)  # while everything that is made stays
_WORKING = (20_000, 20, 50)
_BUSY_SECONDS = 5  # of a component that has just begun and has all to do


def loading() -> None:
    """Look seldom, until `settled` is called: a component starts."""
    gc.set_threshold(*_LOADING)


def settled() -> None:
    """Leave alone what is there now, and look at the rest as often as a server that works should."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_WORKING)
    gc.enable()


def settled_soon() -> None:
    """`settled`, but only when the first work is done: to look at a big heap takes a tenth of a second and more."""
    asyncio.get_running_loop().call_later(_BUSY_SECONDS, settled)
