"""The program of a pod that answers reviews of admission and of conversion: a folder with tls.crt and tls.key, a port.

It runs by itself, with the standard library alone.
"""

from __future__ import annotations

import base64
import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Review = dict[str, Any]


def denied(message: str) -> Review:
    return {"allowed": False, "status": {"message": message}}


def patched(*operations: Review) -> Review:
    if not operations:
        return {"allowed": True}
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patch": text, "patchType": "JSONPatch"}


def slowly(_: Review) -> Review:
    time.sleep(5)
    return {"allowed": True}


def pods(request: Review) -> Review:
    pod = request["object"]
    label = (pod["metadata"].get("labels") or {}).get("webhook-e2e-test")
    if label == "wait-forever":
        time.sleep(3600)
    told = []
    if label == "webhook-disallow":
        told.append("the pod contains unwanted label; ")
    if any("webhook-disallow" in container["name"] for container in pod["spec"]["containers"]):
        told.append("the pod contains unwanted container name; ")
    return denied("".join(told).strip()) if told else {"allowed": True}


def attach(request: Review) -> Review:
    if request["name"] == "to-be-attached-pod" and request["operation"] == "CONNECT":
        return denied("attaching to pod 'to-be-attached-pod' is not allowed")
    return {"allowed": True}


def data(request: Review) -> Review:
    """Of a config map, or of a custom resource: what may be written, and what may be deleted."""
    what = "configmap" if request["kind"]["kind"] == "ConfigMap" else "custom resource"
    deleted = request["operation"] == "DELETE"
    found = (request["oldObject" if deleted else "object"].get("data") or {}).get("webhook-e2e-test")
    unwanted = "key and value" if what == "configmap" else "data"
    if found == "webhook-disallow" and not deleted:
        return denied(f"the {what} contains unwanted {unwanted}")
    if found == "webhook-nondeletable" and deleted:
        return denied(f"the {what} cannot be deleted because it contains unwanted key and value")
    return {"allowed": True}


def mutate_data(request: Review) -> Review:
    """Stage 2 when stage 1 was reached, else stage 1."""
    found = request["object"].get("data") or {}
    if found.get("mutation-stage-1") == "yes":
        return patched({"op": "add", "path": "/data/mutation-stage-2", "value": "yes"})
    if found.get("mutation-start") == "yes":
        return patched({"op": "add", "path": "/data/mutation-stage-1", "value": "yes"})
    return patched()


def mutate_pods(request: Review) -> Review:
    if request["object"]["metadata"]["name"] != "webhook-to-be-mutated":
        return patched()
    added = {"image": request["object"]["spec"]["containers"][0]["image"], "name": "webhook-added-init-container"}
    return patched({"op": "add", "path": "/spec/initContainers", "value": [added | {"resources": {}}]})


def definitions(request: Review) -> Review:
    if (request["object"]["metadata"].get("labels") or {}).get("webhook-e2e-test") == "webhook-disallow":
        return denied("the crd contains unwanted label")
    return {"allowed": True}


def label(request: Review) -> Review:
    if request["object"]["metadata"].get("labels") is None:
        return patched({"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}})
    return patched({"op": "add", "path": "/metadata/labels/added-label", "value": "yes"})


ADMISSION = {
    "/always-deny": lambda _: denied("this webhook denies all requests"),
    "/always-allow-delay-5s": slowly,
    "/pods": pods,
    "/pods/attach": attach,
    "/data": data,
    "/mutating-data": mutate_data,
    "/mutating-pods": mutate_pods,
    "/crd": definitions,
    "/add-label": label,
}


def converted(obj: Review, version: str) -> Review:
    """v1 has `hostPort`, v2 `host` and `port`."""
    obj = obj | {"apiVersion": version}
    if version.endswith("/v2") and "hostPort" in obj:
        obj["host"], _, obj["port"] = obj.pop("hostPort").partition(":")
    elif version.endswith("/v1") and "host" in obj:
        obj["hostPort"] = f"{obj.pop('host')}:{obj.pop('port', '')}"
    return obj


def convert(request: Review) -> Review:
    version = request["desiredAPIVersion"]
    if any(each["apiVersion"] == version for each in request["objects"]):
        return {"result": {"status": "Failure", "message": "conversion to itself should not call the webhook"}}
    objects = [converted(each, version) for each in request["objects"]]
    return {"convertedObjects": objects, "result": {"status": "Success"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"ok")

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        answer = convert if path == "/convert" else ADMISSION[path]
        request = review.pop("request")
        response = answer(request) | {"uid": request["uid"]}
        self.answer(json.dumps(review | {"response": response}).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(folder: str, port: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    server = ThreadingHTTPServer(("", int(port)), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
