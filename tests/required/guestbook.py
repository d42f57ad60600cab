"""An application of three tiers: a frontend that writes to a primary store, which hands on to replicas that are read.

Run with its role (frontend, primary, replica) and, for a replica, its own address in the environment; on port 8080.
"""

import json
import os
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROLE = os.environ["ROLE"]
PRIMARY, REPLICA = "http://agnhost-primary:6379", "http://agnhost-replica:6379"
stored = {"data": ""}
replicas: list[str] = []


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def store(value: str) -> None:
    stored["data"] = value
    for address in replicas:
        ask(f"http://{address}:8080/set?{urllib.parse.urlencode({'value': value})}")


def answer(path: str, given: dict[str, str]) -> str:
    if ROLE == "frontend":
        if given["cmd"] == "get":
            return ask(f"{REPLICA}/get")
        return ask(f"{PRIMARY}/set?{urllib.parse.urlencode({'value': given['value']})}")
    if path == "/register":
        replicas.append(given["address"])
        store(stored["data"])
        return "{}"
    if path == "/set":
        store(given["value"])
        return json.dumps({"message": "Updated"})
    return json.dumps(stored)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = urllib.parse.urlsplit(self.path)
        body = answer(asked.path, dict(urllib.parse.parse_qsl(asked.query, keep_blank_values=True))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def register() -> None:
    while True:
        try:
            ask(f"{PRIMARY}/register?{urllib.parse.urlencode({'address': os.environ['ADDRESS']})}")
            return
        except OSError:
            time.sleep(0.5)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", 8080), Handler)
    if ROLE == "replica":
        threading.Thread(target=register).start()
    server.serve_forever()
