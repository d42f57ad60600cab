"""Links in what a proxied server answers, made to lead through the proxy again.

A server behind `…/services/web/proxy/` does not know of the path before its own: a link to `/page` would leave it.

Source: k8s.io/apimachinery/pkg/util/proxy/transport.go; the attributes are those that HTML has URLs in.
"""

from __future__ import annotations

import gzip
import html
import posixpath
import re
import zlib
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

LARGEST_PAGE_BYTES = 8 * 1024 * 1024
"""Larger pages pass as they are."""

_URLS = {
    "a": {"href"},
    "applet": {"codebase"},
    "area": {"href"},
    "audio": {"src"},
    "base": {"href"},
    "blockquote": {"cite"},
    "body": {"background"},
    "button": {"formaction"},
    "command": {"icon"},
    "del": {"cite"},
    "embed": {"src"},
    "form": {"action"},
    "frame": {"longdesc", "src"},
    "head": {"profile"},
    "html": {"manifest"},
    "iframe": {"longdesc", "src"},
    "img": {"longdesc", "src", "usemap"},
    "input": {"src", "usemap", "formaction"},
    "ins": {"cite"},
    "link": {"href"},
    "object": {"classid", "codebase", "data", "usemap"},
    "q": {"cite"},
    "script": {"src"},
    "source": {"src"},
    "video": {"poster", "src"},
}
_COMMENT_OR_TAG = re.compile(r"<!--.*?-->|<([a-zA-Z][^\s/>]*)((?:[^>\"']|\"[^\"]*\"|'[^']*')*)>", re.DOTALL)
_ATTRIBUTE = re.compile(r"([^\s\"'>/=]+)(\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s>\"']+)")
_END_OF_RAW = {name: re.compile(rf"</{name}\b", re.IGNORECASE) for name in ("script", "style", "textarea", "title")}


@dataclass(frozen=True, slots=True)
class Rewriting:
    """How links are changed: `prefix` is the path of the proxy, without what follows it."""

    prefix: str
    hosts: frozenset[str]
    """HOST:PORT of the server, as it and as the client may call it."""

    def url(self, text: str) -> str:
        """A URL as it is to be followed: one of another host, or relative to the page, stays."""
        try:
            parts = urlsplit(text)
        except ValueError:
            return text
        if (parts.netloc and parts.netloc not in self.hosts) or not parts.path.startswith("/"):
            return text
        path = parts.path
        if not path.startswith(self.prefix):
            joined = posixpath.normpath(f"{self.prefix}/{path}").replace("//", "/")
            path = f"{joined}/" if path.endswith("/") and not joined.endswith("/") else joined
        return urlunsplit(("", "", path, parts.query, parts.fragment))

    def page(self, text: str) -> str:
        """An HTML page with its links changed; all else stays to the letter."""
        made: list[str] = []
        at = 0
        while found := _COMMENT_OR_TAG.search(text, at):
            made.append(text[at : found.start()])
            tag = (found[1] or "").lower()
            made.append(self._tag(found, tag))
            at = found.end()
            if tag in _END_OF_RAW:  # what is in there looks like tags at most
                end = _END_OF_RAW[tag].search(text, at)
                stop = end.start() if end else len(text)
                made.append(text[at:stop])
                at = stop
        made.append(text[at:])
        return "".join(made)

    def _tag(self, found: re.Match[str], tag: str) -> str:
        names = _URLS.get(tag)
        if names is None:
            return found[0]
        return f"<{found[1]}{_ATTRIBUTE.sub(lambda each: self._attribute(each, names), found[2])}>"

    def _attribute(self, found: re.Match[str], names: set[str]) -> str:
        if found[1].lower() not in names:
            return found[0]
        value = found[3]
        quoted = value[0] in "\"'"
        old = html.unescape(value[1:-1] if quoted else value)
        new = self.url(old)
        return found[0] if new == old else f'{found[1]}{found[2]}"{html.escape(new)}"'

    def body(self, data: bytes, encoding: str) -> bytes:
        """A page as it was sent, in a Content-Encoding; what can't be read stays."""
        try:
            plain = _unpack(data, encoding)
        except (OSError, EOFError, zlib.error, ValueError):
            return data
        changed = self.page(plain.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        return data if changed == plain else _pack(changed, encoding)


def _unpack(data: bytes, encoding: str) -> bytes:
    match encoding:
        case "":
            return data
        case "gzip":
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        case "deflate":
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        case _:
            raise ValueError(encoding)
    plain = unpacker.decompress(data, LARGEST_PAGE_BYTES)
    if not unpacker.eof:
        raise ValueError("too large, or cut off")
    return plain


def _pack(data: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(data, mtime=0)
    if encoding == "deflate":
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(data) + packer.flush()
    return data
