"""Bodies that are no objects, requests that are no requests, and clients that go away or take for ever."""

from __future__ import annotations

import contextlib
import json
import random
import ssl
from itertools import pairwise

import pytest
from fuzzed_server import FuzzedServer, is_defect
from fuzzing import CHANCES, bounded
from hostile import STRINGS
from hypothesis import given
from hypothesis import strategies as st

pytest_plugins = ["fuzzed_fixture"]

PATH = "/api/v1/namespaces/default/configmaps"
CONTENT = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
    "text/plain",
    "application/json; charset=utf-7",
    "",
    "\x7f/;;=",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "BREW")
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join(['*' + before] * 9)}]\n" for before, after in pairwise("abcdefghi")
)
GOOD = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"half"}}'


def refused(server: FuzzedServer, method: str, path: str, body: bytes, content: str) -> None:
    before = server.written()
    status, text = server.request(method, path, body, {"Content-Type": content})
    assert 400 <= status < 500, (method, path, body[:300], content, status, text)
    assert server.written() == before


@given(body=st.binary(max_size=300), content=st.sampled_from(CONTENT))
@bounded(150)
def test_bytes_of_any_kind(server: FuzzedServer, body: bytes, content: str) -> None:
    refused(server, "POST", PATH, body, content)


@given(body=st.binary(max_size=200))
@bounded(150)
def test_protobuf_of_any_kind(server: FuzzedServer, body: bytes) -> None:
    refused(server, "POST", PATH, b"k8s\x00" + body, "application/vnd.kubernetes.protobuf")


@given(cut=st.integers(0, 200), junk=st.binary(max_size=3), content=st.sampled_from(CONTENT[:2]))
@bounded(100)
def test_objects_that_are_cut_or_stained(server: FuzzedServer, cut: int, junk: bytes, content: str) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","labels":{"a":"b"}},"data":{"a":"b","c":"d"}}'
    at = cut % len(body)
    refused(server, "POST", PATH, body[:at], content)
    stained = body[:at] + b"\xff" + junk + body[at + 1 :]
    status, text = server.request("POST", PATH, stained, {"Content-Type": content})
    assert status in (201, 400, 422), (stained, text)  # in a string, Go's JSON takes wrong UTF-8 for U+FFFD
    if status == 201:
        assert server.request("DELETE", f"{PATH}/{json.loads(text)['metadata']['name']}")[0] == 200


@pytest.mark.parametrize("depth", [100, 10_000, 200_000])
@pytest.mark.parametrize(
    ("before", "middle", "after"), [(b"[", b"", b"]"), (b'{"a":', b"1", b"}"), (b'{"data":{"a":', b"1", b"}}")]
)
@pytest.mark.parametrize("content", CONTENT[:2])
def test_deep_nesting(
    server: FuzzedServer, depth: int, before: bytes, middle: bytes, after: bytes, content: str
) -> None:
    head = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Deep"},"data":'
    refused(server, "POST", PATH, head + before * depth + middle + after * depth + b"}", content)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "&a [*a]",
        "!!python/object/apply:os.system [true]",
        "? [a]\n: b",
        "--- a\n--- b\n",
        "\ufeffkind: ConfigMap",
        "kind: !!binary aaaa",
        "<<: {a: b}\n<<: [c]",
    ],
)  # fmt: skip
def test_yaml_with_a_will_of_its_own(server: FuzzedServer, text: str) -> None:
    refused(server, "POST", PATH, text.encode(), "application/yaml")


def test_what_is_too_large_is_refused_before_it_is_read(server: FuzzedServer) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {server.authorization}\r\n"
    head += "Content-Type: application/json\r\n"
    assert server.raw(f"{head}Connection: close\r\nContent-Length: {10**12}\r\n\r\n".encode())[0] == 413
    refused(server, "POST", PATH, b'{"data":{"a":"' + b"x" * 4_000_000 + b'"}}', "application/json")


@given(
    method=st.sampled_from(METHODS),
    path=st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="#"), max_size=60),
    root=st.sampled_from(("/", "/api/v1/", "/apis/", f"{PATH}/", "/openapi/", "/api/v1/namespaces/default/pods/x/")),
)
@bounded(150)
def test_paths_of_any_kind(server: FuzzedServer, method: str, path: str, root: str) -> None:
    before = server.written()
    body = b"{}" if method in ("POST", "PUT", "PATCH") else b""
    head = (
        f"{method} {root}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {server.authorization}\r\nConnection: close\r\n"
    )
    status, answer = server.raw(head.encode("utf-8") + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert not is_defect(status, answer), (head, answer)
    assert server.written() == before


@given(chance=CHANCES)
@bounded(100)
def test_queries_of_any_kind(server: FuzzedServer, chance: random.Random) -> None:
    names = (
        "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "watch",
        "allowWatchBookmarks", "sendInitialEvents", "pretty", "dryRun", "fieldManager", "fieldValidation",
        "includeObject",
        "propagationPolicy", "gracePeriodSeconds", "orphanDependents", "verbose",
        "exclude",
    )  # fmt: skip
    values = (
        *STRINGS, "0", "1", "-1", "true", "999999999999999999999", "a=b,c!=d", "a in (b,c),!d", "a in (", "(((", "=",
        "metadata.name=x", "spec.nodeName==", "%zz", "%00", "Exact", "NotOlderThan", "😀",
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEi",
    )  # fmt: skip
    query = "&".join(f"{chance.choice(names)}={chance.choice(values)}" for _ in range(chance.randrange(1, 5)))
    resource = chance.choice(("pods", "configmaps", "events", "nothing", "configmaps/x"))
    path = f"/api/v1/namespaces/default/{resource}?timeoutSeconds=1&timeout=1s&{query}".replace(" ", "%20")
    status, text = server.request(chance.choice(("GET", "DELETE")), path)
    assert not is_defect(status, text), (path, text)


@given(chance=CHANCES)
@bounded(120)
def test_headers_of_any_kind(server: FuzzedServer, chance: random.Random) -> None:
    names = (
        "Accept", "Content-Type", "Accept-Encoding", "Content-Encoding", "Impersonate-User", "Impersonate-Group",
        "Impersonate-Uid", "Impersonate-Extra-%2f", "Upgrade", "Connection", "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol", "X-Stream-Protocol-Version", "X-Remote-User", "X-Forwarded-For", "If-None-Match",
        "Transfer-Encoding", "Expect", "Range", "Authorization", "User-Agent", "Audit-ID", "Origin", "Cookie",
    )  # fmt: skip
    values = (
        *STRINGS, "", "application/json;as=Table;v=v9;g=x", "*/*;q=2", "a/b/c", "gzip", "websocket", "SPDY/3.1",
        "upgrade",
        "chunked", "100-continue", "bytes=0-", "Bearer a.b.c", "Basic !!", "system:masters", "x" * 7000, "\u00ff\u00fe",
        "v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io.AAAA", "dGhlIHNhbXBsZSBub25jZQ==", "13",
    )  # fmt: skip
    lines = [f"{chance.choice(names)}: {chance.choice(values)}" for _ in range(chance.randrange(1, 6))]
    path = chance.choice((PATH, "/version", "/api", "/openapi/v2", "/api/v1/namespaces/default/pods/x/exec?command=a"))
    head = [
        f"GET {path} HTTP/1.1",
        "Host: x",
        f"Authorization: {server.authorization}",
        *lines,
        "Connection: close",
        "",
        "",
    ]
    before = server.written()
    status, answer = server.raw("\r\n".join(head).encode("latin-1"))
    assert not is_defect(status, answer), (head, answer)
    assert server.written() == before


def test_half_a_request_writes_nothing(server: FuzzedServer) -> None:
    before = server.written()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {server.authorization}\r\n"
    head += "Content-Type: application/json\r\n"
    whole = head.encode() + f"Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD
    for cut in range(1, len(whole), 17):
        with server.connect() as connection:
            connection.sendall(whole[:cut])
    assert server.is_well()
    assert server.written() == before
    assert server.request("GET", f"{PATH}/half")[0] == 404


def test_clients_that_take_for_ever_keep_nobody_waiting(server: FuzzedServer) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {server.authorization}\r\nContent-Length: 100\r\n\r\n{{"
    with contextlib.ExitStack() as stack:
        for number in range(150):
            connection = stack.enter_context(server.connect())
            connection.sendall(head[: 20 + number * 2].encode())
        for _ in range(20):
            assert server.is_well()
            status, _ = server.request("GET", "/api/v1/namespaces")
            assert status == 200


def test_what_is_not_tls_harms_nobody(server: FuzzedServer) -> None:
    import socket

    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 500, b"\x00" * 10_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(sent)
            with contextlib.suppress(ConnectionError):
                connection.recv(100)
    with contextlib.suppress(ssl.SSLError, ConnectionError), server.connect() as connection:
        connection.unwrap()
    assert server.is_well()


def test_several_requests_in_one_go(server: FuzzedServer) -> None:
    """Pipelined requests of which the second is none, and one whose length can be read in two ways."""
    head = f"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: {server.authorization}\r\n\r\n"
    assert server.raw((head + "\x00\x01nonsense\r\n\r\n").encode())[0] in (200, 400)
    two = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
    status, answer = server.raw(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{two}".encode())
    assert (status, answer.count(b"HTTP/1.")) == (400, 1)
