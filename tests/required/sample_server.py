"""The program of a pod that serves an API group of its own behind the aggregator: a folder with tls.crt, tls.key and
`authority`, a port. Who comes must show a certificate of that authority, the front proxy's, and say who asks.

It runs by itself, with the standard library alone.
"""

from __future__ import annotations

import json
import ssl
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GROUP, VERSION = "wardle.example.com", "v1alpha1"
KIND = {"kind": "Flunder", "apiVersion": f"{GROUP}/{VERSION}"}
BASE = f"/apis/{GROUP}/{VERSION}"
OFFERED = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
VERSIONS = {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [OFFERED], "preferredVersion": OFFERED}
VERBS = ["create", "delete", "deletecollection", "get", "list"]
FLUNDERS = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": VERBS}
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [FLUNDERS],
}
DOCUMENTS = {
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [VERSIONS]},
    f"/apis/{GROUP}": VERSIONS,
    BASE: RESOURCES,
}

stored: dict[tuple[str, str], dict[str, Any]] = {}
"""By namespace and name."""


def failure(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    told = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, told | {"message": message, "reason": reason, "code": code}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.handled(None)

    def do_POST(self) -> None:
        self.handled(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.handled(None)

    def handled(self, body: Any) -> None:
        path = self.path.partition("?")[0]
        if path == "/readyz":
            return self.answer(200, {})
        assert isinstance(self.connection, ssl.SSLSocket)
        if not self.connection.getpeercert() or not self.headers.get("X-Remote-User"):
            return self.answer(*failure(401, "Unauthorized", "Unauthorized"))
        if path in DOCUMENTS:
            return self.answer(200, DOCUMENTS[path])
        parts = path.removeprefix(BASE).split("/")[1:]
        if not path.startswith(BASE) or parts[0] != "namespaces" or len(parts) not in (3, 4):
            return self.answer(*failure(404, "NotFound", "the server could not find the requested resource"))
        return self.answer(*self.resource(parts[1], parts[3] if len(parts) == 4 else "", body))

    def resource(self, namespace: str, name: str, body: Any) -> tuple[int, dict[str, Any]]:
        if self.command == "POST":
            meta = body["metadata"] | {"namespace": namespace, "uid": str(uuid.uuid4()), "resourceVersion": "1"}
            made = stored[namespace, meta["name"]] = KIND | body | {"metadata": meta}
            return 201, made
        chosen = {key: obj for key, obj in stored.items() if key[0] == namespace and name in ("", key[1])}
        if name and not chosen:
            return failure(404, "NotFound", f'flunders.{GROUP} "{name}" not found')
        if self.command == "DELETE":
            for key in chosen:
                del stored[key]
            return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        if name:
            return 200, chosen[namespace, name]
        listed = KIND | {"kind": "FlunderList", "metadata": {"resourceVersion": "1"}}
        return 200, listed | {"items": list(chosen.values())}

    def answer(self, code: int, document: Any) -> None:
        text = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main(folder: str, port: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    tls.load_verify_locations(f"{folder}/authority")
    tls.verify_mode = ssl.CERT_OPTIONAL  # probes come without
    server = ThreadingHTTPServer(("", int(port)), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
