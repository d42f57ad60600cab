"""Modules imported later, or in part."""

from __future__ import annotations

import subprocess
import sys

import pytest

from machinery import imports


def test_the_api_server_starts_without_what_it_needs_only_sometimes() -> None:
    code = (
        "import sys, controlplane.apiserver.flags, controlplane.apiserver.assembly;"
        "print([m for m in ('aiohttp.client', 'jsonschema', 'prompt_toolkit', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_deferred_module_is_whole_when_it_is_used() -> None:
    code = (
        "import sys; from machinery.imports import deferred;"
        "m = deferred('aiohttp'); before = 'aiohttp.client' in sys.modules;"
        "print(before, m.ClientSession.__name__, 'aiohttp.client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False ClientSession True\n"


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        imports.deferred("no_such")
