"""Heads of requests: read by llhttp, or recognised.

Clients that keep their connection send the same header lines again and again. A head whose header lines are byte for
byte those of the request before needs only its first line read; the headers object is then shared by both requests.

Source: RFC 9112.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httptools
from multidict import CIMultiDict, CIMultiDictProxy

if TYPE_CHECKING:
    from multidict import MultiMapping

_LINE = re.compile(rb"(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) (/[!-~]*) HTTP/1\.1")

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_STAND_IN = b"REPORT"  # a method that llhttp knows and nobody uses
_ABSOLUTE = re.compile("^https?://[^/?]*")


class BadHead(Exception):
    """A head that is none; the connection can't go on."""


@dataclass(slots=True)
class Head:
    """A request without its body."""

    method: str
    target: str
    """As it came: path and query."""
    headers: MultiMapping[str]
    minor: int
    keep_alive: bool
    length: int
    """Of the body; -1: it comes in chunks."""
    upgrade: bool
    expects_continue: bool
    impersonates: bool
    """There are headers that begin with `Impersonate-`."""


class _Collector:
    """What llhttp calls back with."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("utf-8", "replace")))


class Heads:
    """Reads the heads of one connection."""

    __slots__ = ("_lines", "_model")

    def __init__(self) -> None:
        self._lines = b""
        self._model: Head | None = None

    def read(self, raw: bytes) -> Head:
        """The head in `raw`, which ends with the empty line. Raises BadHead."""
        first, _, lines = raw.partition(b"\r\n")
        model = self._model
        if model is not None and lines == self._lines:
            found = _LINE.fullmatch(first)
            if found is not None:
                return Head(
                    found[1].decode(),
                    found[2].decode(),
                    model.headers,
                    1,
                    model.keep_alive,
                    model.length,
                    False,
                    False,
                    model.impersonates,
                )
        head = _parse(raw)
        plain = head.minor == 1 and head.length >= 0 and not head.upgrade and not head.expects_continue
        self._model, self._lines = (head, lines) if plain else (None, b"")
        return head


def _keeps_alive(headers: CIMultiDict[str], minor: int) -> bool:
    """Whether the client wants the connection to go on. (Of a request without a body the parser has forgotten.)"""
    options = {option.strip().lower() for value in headers.getall("Connection", ()) for option in value.split(",")}
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def _parse(raw: bytes) -> Head:
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    upgrade = False
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        upgrade = True
    except httptools.HttpParserInvalidMethodError as exc:
        name = raw.partition(b" ")[0]
        if not _TOKEN.fullmatch(name) or name == _STAND_IN:
            raise BadHead(str(exc)) from exc
        head = _parse(_STAND_IN + raw[len(name) :])  # what is not a method of HTTP's own is the handlers' to refuse
        head.method = name.decode()
        return head
    except httptools.HttpParserError as exc:
        raise BadHead(str(exc)) from exc
    headers: CIMultiDict[str] = CIMultiDict(collector.headers)
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise BadHead("unsupported protocol version")
    minor = 1 if version == "1.1" else 0
    if minor and len(headers.getall("Host", ())) != 1:
        raise BadHead("missing required Host header" if "Host" not in headers else "too many Host headers")
    coded = headers.getall("Transfer-Encoding", ())
    if coded and (len(coded) > 1 or coded[0].lower() != "chunked" or not minor):
        raise BadHead("unsupported transfer encoding")
    length = headers.get("Content-Length", "0")
    if not length.isascii() or not length.isdigit():
        raise BadHead("bad Content-Length")
    return Head(
        parser.get_method().decode(),
        _ABSOLUTE.sub("", collector.target.decode("utf-8", "replace"), count=1) or "/",
        CIMultiDictProxy(headers),
        minor,
        _keeps_alive(headers, minor),
        -1 if coded else int(length),
        upgrade or "Upgrade" in headers,
        headers.get("Expect", "").lower() == "100-continue",
        any(name.lower().startswith("impersonate-") for name in headers),
    )
