"""Text of unknown encoding, and the YAML that takes its parser too long."""

from __future__ import annotations

import time

import pytest

from controlplane.apiserver.handlers import yamlbody
from machinery.errors import BadRequest
from machinery.text import encodable


def test_what_is_no_utf8_becomes_encodable() -> None:
    decoded = b"a\xff\xc3\xa9".decode("utf-8", "surrogateescape")
    assert encodable(decoded).encode().decode() == encodable(decoded)
    assert encodable("\u00e9\u20ac") == "\u00e9\u20ac"
    assert "\ufffd" in BadRequest(decoded).to_status()["message"]


@pytest.mark.parametrize("text", ["[" * 500_000, '{"a":' * 300_000, "x: " + "[[" * 200_000 + "]]" * 200_000])
def test_brackets_nested_without_end_are_refused_at_once(text: str) -> None:
    started = time.process_time()
    with pytest.raises(yamlbody.YamlError, match="exceeded max depth"):
        yamlbody.loads(text.encode())
    assert time.process_time() - started < 2


def test_many_brackets_beside_each_other_are_fine() -> None:
    assert yamlbody.loads(b"[" + b"[]," * 5_000 + b"[]]")[0] == [[]] * 5_001


def test_keys_that_are_collections_are_refused() -> None:
    with pytest.raises(yamlbody.YamlError, match="invalid map key"):
        yamlbody.loads(b"? [a]\n: b\n")
