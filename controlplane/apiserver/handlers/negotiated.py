"""What representation the client of a request gets."""

from __future__ import annotations

from dataclasses import replace

from controlplane.apiserver.handlers import table
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.negotiation import Form, negotiate

_HUMAN = ("curl", "Wget", "Mozilla/5.0")  # programs whose users read the answer themselves


def form(exchange: Exchange, *, shapes: bool = True, list_or_watch: bool = False) -> Form:
    """The representation. Raises NotAcceptable."""
    served = exchange.target.served
    protobuf = served is None or (served.schema is not None and not served.custom)
    accept = exchange.headers.get("Accept", "")
    found = negotiate(accept, shapes=shapes, list_or_watch=list_or_watch, protobuf=protobuf)
    query = exchange.query
    if "pretty" in query:
        return replace(found, pretty=query.flag("pretty"))
    if exchange.headers.get("User-Agent", "").startswith(_HUMAN):
        return replace(found, pretty=True)
    return found


def include(exchange: Exchange, form: Form) -> str:
    """The Table's includeObject. Raises BadRequest."""
    return table.include_object(exchange.query.get("includeObject")) if form.shape == "Table" else ""
