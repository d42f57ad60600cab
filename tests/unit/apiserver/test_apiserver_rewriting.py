"""Links through the proxy."""

from __future__ import annotations

import gzip
import zlib

import pytest

from controlplane.apiserver.handlers.rewriting import Rewriting

PREFIX = "/api/v1/namespaces/ns/services/web/proxy"
LINKS = Rewriting(PREFIX, frozenset(("10.0.0.7:80", "127.0.0.1:6443")))


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("/page?a=1#b", f"{PREFIX}/page?a=1#b"),
        ("/folder/", f"{PREFIX}/folder/"),
        ("page", "page"),
        ("http://10.0.0.7:80/page", f"{PREFIX}/page"),
        ("https://127.0.0.1:6443/page", f"{PREFIX}/page"),
        ("http://elsewhere.example.com/page", "http://elsewhere.example.com/page"),
        (f"{PREFIX}/page", f"{PREFIX}/page"),
        ("http://[broken/page", "http://[broken/page"),
        ("", ""),
    ],
)
def test_urls_of_the_server_lead_through_the_proxy(given: str, made: str) -> None:
    assert LINKS.url(given) == made


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ('<a href="/rewriteme">test</a>', f'<a href="{PREFIX}/rewriteme">test</a>'),
        ("<A class=x HREF='/r?a&amp;b'>", f'<A class=x HREF="{PREFIX}/r?a&amp;b">'),
        ("<img src=/i.png alt='/x'>", f"<img src=\"{PREFIX}/i.png\" alt='/x'>"),
        ("<p href='/x'> /y <b>", "<p href='/x'> /y <b>"),
        ("<!-- <a href='/x'> --><br>", "<!-- <a href='/x'> --><br>"),
        (
            "<script src='/s.js'>'<a href=\"/x\">'</script><a href=/y>",
            f'<script src="{PREFIX}/s.js">\'<a href="/x">\'</script><a href="{PREFIX}/y">',
        ),
        ("<a href='/unclosed", "<a href='/unclosed"),
    ],
)
def test_links_of_pages_are_changed_and_nothing_else(given: str, made: str) -> None:
    assert LINKS.page(given) == made


def test_packed_pages_are_changed_too_and_what_is_no_page_stays() -> None:
    page, made = b"<a href='/x'>\xff", f'<a href="{PREFIX}/x">'.encode() + b"\xff"
    assert LINKS.body(page, "") == made
    assert gzip.decompress(LINKS.body(gzip.compress(page), "gzip")) == made
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = packer.compress(page) + packer.flush()
    assert zlib.decompress(LINKS.body(deflated, "deflate"), -zlib.MAX_WBITS) == made
    for data, encoding in ((page, "br"), (b"not gzip", "gzip"), (gzip.compress(page)[:-9], "gzip")):
        assert LINKS.body(data, encoding) == data
