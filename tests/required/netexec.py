"""A program for pods: it serves HTTP and UDP and asks others, over both. Run with `python3 -c` in the components' image.

    serve JSON    {"http": [port…], "udp": [port…], "texts": {port: text}, "tls": {port: text}, "json": text}
    dial JSON     {"url": "http://…" | "udp://host:port", "times": n, "source": address}  → a JSON list of answers (null: none)
    resolve JSON  [[name, type]…] → a JSON list: what is answered over [UDP, TCP], with the search list

HTTP says on /hostname who serves and on /clientip who asks; a port with a text says that, whatever is asked;
with "json" all say {"Method", "Body"}. UDP answers "hostname".
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SECONDS = 3.0


class Handler(BaseHTTPRequestHandler):
    """Answers every method."""

    protocol_version = "HTTP/1.1"
    texts: dict[int, str] = {}  # noqa: RUF012 - set once, before it serves
    body: str | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        text = self.texts.get(self.connection.getsockname()[1])
        kind = "text/html" if text and text.startswith("<") else "text/plain"
        if self.body is not None:
            text, kind = json.dumps({"Method": self.command, "Body": self.body}), "application/json"
        elif text is None:
            text = {"/hostname": socket.gethostname(), "/clientip": self.client_address[0]}.get(path, "")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(options: dict[str, Any]) -> None:
    """Until the pod ends."""
    texts = {int(port): text for port, text in (options.get("texts", {}) | options.get("tls", {})).items()}
    Handler.texts, Handler.body = texts, options.get("json")
    context = tls_context() if options.get("tls") else None
    for port in [*options.get("http", ()), *texts]:
        server = ThreadingHTTPServer(("", port), Handler)
        if context is not None and str(port) in options["tls"]:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()
    for port in options.get("udp", ()):
        threading.Thread(target=serve_udp, args=(port,)).start()


def serve_udp(port: int) -> None:
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("", port))
    while True:
        asked, peer = listening.recvfrom(1024)
        if asked.strip().lower() == b"hostname":
            listening.sendto(socket.gethostname().encode(), peer)


def tls_context() -> Any:
    from machinery.serving import self_signed_tls

    return self_signed_tls()


def dial(options: dict[str, Any]) -> None:
    """Ask again and again, each time over a new connection."""
    answers = [once(urlsplit(options["url"]), options.get("source", "")) for _ in range(options.get("times", 1))]
    print(json.dumps(answers))


def once(url: Any, source: str) -> str | None:
    import http.client

    host, port = url.hostname, url.port
    try:
        if url.scheme == "udp":
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            asking.settimeout(SECONDS)
            asking.bind((source, 0))
            asking.connect((host, port))
            asking.send(b"hostname")
            return asking.recv(1024).decode()
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS, source_address=(source, 0))
        connection.request("GET", url.path)
        return connection.getresponse().read().decode()
    except OSError:
        return None


def resolve(questions: list[list[str]]) -> None:
    """Ask the pod's name server."""
    with open("/etc/resolv.conf", encoding="ascii") as file:
        words = [line.split() for line in file]
    server = next(line[1] for line in words if line and line[0] == "nameserver")
    search = next((line[1:] for line in words if line and line[0] == "search"), [])
    dots = next((int(o[6:]) for line in words if line and line[0] == "options" for o in line if o[:6] == "ndots:"), 1)
    print(json.dumps([[lookup(server, search, dots, each, tcp) for tcp in (False, True)] for each in questions]))


def lookup(server: str, search: list[str], dots: int, question: list[str], tcp: bool) -> list[str]:
    """The answer's records to the first of the names that has one."""
    from dnslib import QTYPE, DNSRecord

    name, kind = question
    longer = [f"{name}.{domain}." for domain in search]
    for full in [name, *longer] if name.count(".") >= dots or name.endswith(".") else [*longer, name]:
        try:
            answer = DNSRecord.parse(DNSRecord.question(full, kind).send(server, 53, tcp=tcp, timeout=SECONDS))
        except OSError:
            continue
        if found := [str(each.rdata) for each in answer.rr if QTYPE[each.rtype] in (kind, "CNAME")]:
            return found
    return []


if __name__ == "__main__":
    program: Any = {"serve": serve, "dial": dial, "resolve": resolve}[sys.argv[1]]
    program(json.loads(sys.argv[2]))
