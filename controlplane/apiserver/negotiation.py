"""Which representation a client gets: media type, and whether as the object, a Table or its metadata alone.

Source: k8s.io/apiserver/pkg/endpoints/handlers/negotiation; go-restful's route selection, which comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from controlplane.apiserver.handlers.exchange import JSON, PROTOBUF, YAML
from machinery.errors import NotAcceptable, UnsupportedMediaType

ACCEPTED = (JSON, YAML, PROTOBUF)
_META_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True, slots=True)
class Form:
    """A representation. `shape` is "", Table, PartialObjectMetadata or PartialObjectMetadataList."""

    media: str = JSON
    shape: str = ""
    shape_version: str = "v1"
    pretty: bool = False
    stream: bool = False
    """The client asked for `stream=watch`."""


PLAIN = Form()


def not_acceptable() -> NotAcceptable:
    """The 406 of a client whose wishes can't be met."""
    return NotAcceptable(f"only the following media types are accepted: {', '.join(ACCEPTED)}")


def unsupported_body() -> UnsupportedMediaType:
    """The 415 of a body in an unknown format."""
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(ACCEPTED)}"
    )


@lru_cache(maxsize=1024)
def negotiate(accept: str, *, shapes: bool, list_or_watch: bool = False, protobuf: bool = True) -> Form:
    """The representation for an Accept header.

    `shapes`: whether Table and partial metadata can be had; `list_or_watch`: whether the path has streams;
    `protobuf`: whether the kind has a protobuf form. Custom kinds have none, but their metadata has; and no routes
    that look at the header first.

    Raises:
        NotAcceptable: none of those asked for.
    """
    header = accept or "*/*"
    if protobuf:
        _route_matches(header, list_or_watch=list_or_watch)
    for media, parameters in _clauses(header):
        main, _, sub = media.partition("/")
        for accepted in ACCEPTED:
            accepted_main, _, accepted_sub = accepted.partition("/")
            if main not in ("*", accepted_main) or sub not in ("*", accepted_sub):
                continue
            form = _form(accepted, parameters, shapes=shapes)
            if form is not None and (protobuf or form.shape or accepted != PROTOBUF):
                return form
    raise not_acceptable()


def _form(media: str, parameters: dict[str, str], *, shapes: bool) -> Form | None:
    shape = parameters.get("as", "")
    if not shape:
        return Form(media, pretty=parameters.get("pretty") == "1", stream=parameters.get("stream") == "watch")
    version = parameters.get("v", "")
    known = shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
    if not (shapes and known and version in _META_VERSIONS and parameters.get("g") == "meta.k8s.io"):
        return None
    if shape == "Table" and media == PROTOBUF:
        return None
    return Form(media, shape, version, parameters.get("pretty") == "1", parameters.get("stream") == "watch")


def _route_matches(header: str, *, list_or_watch: bool) -> None:
    for part in header.split(","):
        media = part.partition(";")[0].strip()
        if media in ("*/*", *ACCEPTED) or (list_or_watch and part.strip() in (f"{JSON};stream=watch",)):
            return
    told = [JSON, YAML, PROTOBUF]
    if list_or_watch:
        told += [f"{JSON};stream=watch", f"{PROTOBUF};stream=watch"]
    message = "406: Not Acceptable\n\nAvailable representations: " + ", ".join(told)
    raise NotAcceptable(message, details={})


def _clauses(header: str) -> list[tuple[str, dict[str, str]]]:
    """The clauses, those with a higher quality first, those with wildcards after those without."""
    found: list[tuple[float, int, str, dict[str, str]]] = []
    for part in header.split(","):
        pieces = [piece.strip() for piece in part.split(";")]
        media = pieces[0] if pieces[0] != "*" else "*/*"
        if "/" not in media:
            continue
        quality = 1.0
        parameters: dict[str, str] = {}
        for piece in pieces[1:]:
            name, equals, value = piece.partition("=")
            if not equals:
                continue
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 1.0
            else:
                parameters[name.strip()] = value.strip()
        found.append((-quality, media.count("*"), media, parameters))
    found.sort(key=lambda clause: clause[:2])
    return [(media, parameters) for _, _, media, parameters in found]
