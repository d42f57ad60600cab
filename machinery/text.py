"""Text that came as bytes of nobody knows what encoding."""

from __future__ import annotations


def encodable(text: str) -> str:
    """The text with U+FFFD in the place of what is not UTF-8 (of which decoders make surrogates), as Go writes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text
