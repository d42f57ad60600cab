"""Admission webhooks, called over real TLS: patches, refusals, failures, warnings, dry runs, services."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from auth_store import Store, creates, everybody_may, named

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import BasePlugin
from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.admission.webhook.plugins import MutatingAdmissionWebhook, ValidatingAdmissionWebhook
from controlplane.apiserver.admitting import Admission
from machinery import pki
from machinery.api.catalogue import (
    CONFIGMAPS,
    ENDPOINTSLICES,
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    SERVICES,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)
from machinery.api.meta import Object
from machinery.errors import BadRequest, Forbidden, InternalError, StatusError
from machinery.serving import server_tls

AUTHORITY = pki.make_authority("webhooks", algorithm="ECDSA-P256")
SERVER = pki.issue(
    AUTHORITY,
    "hook",
    usages=pki.SERVER_USAGES,
    names=("127.0.0.1", "hook.hooks.svc"),
    algorithm="ECDSA-P256",
)
BUNDLE = base64.b64encode(AUTHORITY.certificate_pem).decode()
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}

Respond = Callable[[Object], Any]


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[tuple[int, list[Object]]]:
    """A webhook on a free port; `respond` makes the response from the request. Yields the port and what was asked."""
    asked: list[Object] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        review = orjson.loads(await request.read())
        asked.append(review | {"path": request.path_qs, "host": request.host})
        response = respond(review["request"])
        if isinstance(response, web.StreamResponse):
            return response
        if asyncio.iscoroutine(response):
            response = await response
        whole = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return web.json_response(whole)

    runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(SERVER.certificate_pem, SERVER.key_pem)).start()
    try:
        yield runner.addresses[0][1], asked
    finally:
        await runner.cleanup()


def hook(port: int, name: str = "w.example.com", **rest: Any) -> Object:
    config = {"url": f"https://127.0.0.1:{port}/admit", "caBundle": BUNDLE}
    return {"name": name, "clientConfig": config, "rules": [RULE], "sideEffects": "None", "timeoutSeconds": 5} | rest


def config(**data: str) -> Object:
    return named("c", "x", apiVersion="v1", kind="ConfigMap", data=data)


@asynccontextmanager
async def plugins(
    *hooks: Object, store: Store | None = None
) -> AsyncIterator[tuple[MutatingAdmissionWebhook, ValidatingAdmissionWebhook]]:
    store = store or Store()
    store.put(NAMESPACES, named("x"))
    for resource in (MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS):
        store.put(resource, named("hooks", webhooks=list(hooks)))
    client = WebhookClient(store)
    try:
        yield (
            MutatingAdmissionWebhook(store, client, everybody_may),
            ValidatingAdmissionWebhook(store, client, everybody_may),
        )
    finally:
        await client.close()


def patch(request: Object, *operations: Object) -> Object:
    encoded = base64.b64encode(orjson.dumps(list(operations))).decode()
    return {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch", "patch": encoded}


def allow(request: Object) -> Object:
    return {"uid": request["uid"], "allowed": True}


async def test_a_patch_is_applied() -> None:
    def respond(request: Object) -> Object:
        return patch(request, {"op": "add", "path": "/data/by", "value": "hook"}) | {"warnings": ["careful"]}

    async with serving(respond) as (port, asked), plugins(hook(port)) as (mutating, _):
        operation = creates(CONFIGMAPS, config(a="1"))
        assert mutating.handles(operation)
        await mutating.admit(operation)
        assert operation.object is not None
        assert operation.object["data"] == {"a": "1", "by": "hook"}
        assert operation.warnings == ["careful"]
    (review,) = asked
    assert review["path"] == "/admit?timeout=5s"
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    request = review["request"]
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["operation"], request["namespace"], request["name"]) == ("CREATE", "x", "c")
    assert request["userInfo"]["username"] == "admin"
    assert request["object"]["data"] == {"a": "1"}
    assert request["oldObject"] is None


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        ({"message": "no", "code": 409, "reason": "Conflict"}, 409, ": no"),
        ({"message": "no"}, 400, ": no"),
        ({"message": "no", "code": 200}, 400, ": no"),
        ({"reason": "Because"}, 400, ": Because"),
        (None, 400, " without explanation"),
    ],
)
async def test_a_refusal_is_told(status: Object | None, code: int, told: str) -> None:
    def respond(request: Object) -> Object:
        return {"uid": request["uid"], "allowed": False, "status": status}

    async with serving(respond) as (port, _), plugins(hook(port)) as (mutating, validating):
        for phase in (mutating.admit, validating.validate):
            with pytest.raises(StatusError) as refused:
                await phase(creates(CONFIGMAPS, config()))
            assert refused.value.message == f'admission webhook "w.example.com" denied the request{told}'
            assert refused.value.code == code


async def test_what_can_not_be_called_fails_closed_or_open() -> None:
    async with serving(allow) as (port, _):
        pass
    failing = hook(port)
    async with plugins(failing) as (_, validating):
        with pytest.raises(InternalError) as refused:
            await validating.validate(creates(CONFIGMAPS, config()))
        assert refused.value.message == (
            'Internal error occurred: failed calling webhook "w.example.com": failed to call webhook: '
            f'Post "https://127.0.0.1:{port}/admit?timeout=5s": dial tcp 127.0.0.1:{port}: connect: connection refused'
        )
    async with plugins(failing | {"failurePolicy": "Ignore"}) as (mutating, validating):
        await mutating.admit(creates(CONFIGMAPS, config()))
        await validating.validate(creates(CONFIGMAPS, config()))


async def test_a_slow_webhook_is_given_up() -> None:
    async def never(request: Object) -> Object:
        await asyncio.Event().wait()
        return {}

    async with serving(never) as (port, _), plugins(hook(port, timeoutSeconds=0.05)) as (_, validating):
        with pytest.raises(InternalError, match="context deadline exceeded"):
            await validating.validate(creates(CONFIGMAPS, config()))


@pytest.mark.parametrize(
    ("respond", "told"),
    [
        (lambda r: None, "webhook response was absent"),
        (lambda r: {"uid": "other", "allowed": True}, 'expected response.uid="'),
        (lambda r: web.Response(status=503), "the server responded with the status code 503"),
        (lambda r: web.Response(text="hello"), "the answer is not JSON"),
        (
            lambda r: {"uid": r["uid"], "allowed": True, "patch": "W3t9XQ==", "patchType": "Merge"},
            "unsupported patch t",
        ),
        (lambda r: {"uid": r["uid"], "allowed": True, "patch": "!", "patchType": "JSONPatch"}, "undecodable patch in"),
        (lambda r: {"uid": r["uid"], "allowed": True, "patch": "W3t9XQ=="}, "but not response.patchType"),
        (lambda r: {"uid": r["uid"], "allowed": True, "patchType": "JSONPatch"}, "but not response.patch"),
        (lambda r: patch(r, {"op": "remove", "path": "/nope"}), "unable to apply the JSON patch"),
        (lambda r: patch(r, {"op": "add", "path": "/data", "value": 7}), "cannot unmarshal number into"),
    ],
)
async def test_nonsense_from_a_webhook_is_an_internal_error(respond: Respond, told: str) -> None:
    async with serving(respond) as (port, _), plugins(hook(port)) as (mutating, _):
        with pytest.raises(InternalError, match=told):
            await mutating.admit(creates(CONFIGMAPS, config()))


async def test_a_webhook_of_another_authority_is_not_believed() -> None:
    other = base64.b64encode(pki.make_authority("other", algorithm="ECDSA-P256").certificate_pem).decode()
    async with serving(allow) as (port, asked):
        stranger = hook(port)
        stranger["clientConfig"]["caBundle"] = other
        async with plugins(stranger) as (_, validating):
            with pytest.raises(InternalError, match="tls: failed to verify certificate"):
                await validating.validate(creates(CONFIGMAPS, config()))
        assert asked == []


async def test_a_dry_run_needs_a_webhook_without_side_effects() -> None:
    async with serving(allow) as (port, asked):
        for effects, supported in {"None": True, "NoneOnDryRun": True, "Some": False, "Unknown": False}.items():
            async with plugins(hook(port, sideEffects=effects)) as (_, validating):
                operation = creates(CONFIGMAPS, config(), dry_run=True)
                if supported:
                    await validating.validate(operation)
                    assert asked[-1]["request"]["dryRun"] is True
                    continue
                with pytest.raises(BadRequest, match=r'admission webhook "w\.example\.com" does not support dry run'):
                    await validating.validate(operation)


async def test_conditions_and_selectors_keep_a_webhook_off() -> None:
    async with serving(allow) as (port, asked):
        for rest in (
            {"matchConditions": [{"name": "n", "expression": "object.metadata.name != 'c'"}]},
            {"objectSelector": {"matchLabels": {"a": "b"}}},
            {"rules": [RULE | {"resources": ["secrets"]}]},
        ):
            async with plugins(hook(port, **rest)) as (_, validating):
                operation = creates(CONFIGMAPS, config())
                if validating.handles(operation):
                    await validating.validate(operation)
        assert asked == []


async def test_what_is_no_answer_does_not_matter_where_failures_do_not() -> None:
    def respond(request: Object) -> Object:
        return {"uid": request["uid"], "allowed": True, "patch": "!", "patchType": "JSONPatch"}

    async with serving(respond) as (port, _), plugins(hook(port, failurePolicy="Ignore")) as (mutating, validating):
        operation = creates(CONFIGMAPS, config())
        await mutating.admit(operation)
        assert operation.audit_annotations == {
            "failed-open.mutation.webhook.admission.k8s.io/round_0_index_0": "w.example.com",
            "mutation.webhook.admission.k8s.io/round_0_index_0": '{"configuration":"hooks","webhook":"w.example.com",'
            '"mutated":false}',
        }
        operation = creates(CONFIGMAPS, config())
        await validating.validate(operation)
        key = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0"
        assert operation.audit_annotations == {key: "w.example.com"}
    async with serving(respond) as (port, _), plugins(hook(port)) as (_, validating):
        with pytest.raises(InternalError, match=r"validating webhook may not return response\.patch$"):
            await validating.validate(creates(CONFIGMAPS, config()))


async def test_a_condition_that_fails_refuses() -> None:
    condition = {"name": "n", "expression": "object.data.nonsense == 'x'"}
    async with serving(allow) as (port, asked):
        async with plugins(hook(port, matchConditions=[condition])) as (_, validating):
            with pytest.raises(Forbidden, match=r'^configmaps "c" is forbidden: .*no such key: nonsense'):
                await validating.validate(creates(CONFIGMAPS, config()))
        open_ = hook(port, matchConditions=[condition], failurePolicy="Ignore")
        async with plugins(open_) as (_, validating):
            await validating.validate(creates(CONFIGMAPS, config()))
    assert asked == []


class Defaults(BasePlugin):
    """A plugin of the server's own: it comes first, and sees what webhooks change in the second round."""

    def handles(self, operation: Operation) -> bool:
        return True

    async def admit(self, operation: Operation) -> None:
        data = (operation.object or {})["data"]
        data["seen"] = data["n"]


async def test_who_wants_to_is_asked_again() -> None:
    def respond(request: Object) -> Object:
        count = str(int(request["object"]["data"]["n"]) + 1)
        return patch(request, {"op": "replace", "path": "/data/n", "value": count})

    async with serving(respond) as (port, asked):
        first = hook(port, "first.example.com", reinvocationPolicy="IfNeeded")
        async with plugins(first, hook(port, "second.example.com")) as (mutating, _):
            operation = creates(CONFIGMAPS, config(n="0"))
            await Admission([Defaults(), mutating]).admit(operation)
            assert operation.object is not None
            assert operation.object["data"] == {"n": "3", "seen": "2"}
    assert len(asked) == 3
    told = [key.removeprefix("mutation.webhook.admission.k8s.io/") for key in operation.audit_annotations]
    assert [key for key in told if "/" not in key] == ["round_0_index_0", "round_0_index_1", "round_1_index_0"]


async def test_those_that_are_content_are_asked_once() -> None:
    def respond(request: Object) -> Object:
        return patch(request, {"op": "add", "path": "/data/n", "value": "1"})

    async with serving(respond) as (port, asked):
        first = hook(port, "first.example.com", reinvocationPolicy="IfNeeded")
        async with plugins(first, hook(port, "second.example.com")) as (mutating, _):
            await Admission([mutating]).admit(creates(CONFIGMAPS, config(n="1")))
    assert len(asked) == 2  # nothing was changed


async def test_a_service_is_reached_at_its_pods() -> None:
    async with serving(allow) as (port, asked):
        store = Store()
        service = {"name": "hook", "namespace": "hooks", "path": "/check"}
        by_service = hook(port)
        by_service["clientConfig"] = {"service": service, "caBundle": BUNDLE}
        async with plugins(by_service, store=store) as (_, validating):
            with pytest.raises(InternalError, match=r'Post "https://hook.hooks.svc:443/check\?timeout=5s": service "h'):
                await validating.validate(creates(CONFIGMAPS, config()))
            store.put(SERVICES, named("hook", "hooks", spec={"ports": [{"port": 443}], "clusterIP": "None"}))
            with pytest.raises(InternalError, match='no endpoints available for service "hook"'):
                await validating.validate(creates(CONFIGMAPS, config()))
            piece = named("hook-1", "hooks", ports=[{"port": port}], endpoints=[{"addresses": ["127.0.0.1"]}])
            piece["metadata"]["labels"] = {"kubernetes.io/service-name": "hook"}
            store.put(ENDPOINTSLICES, piece)
            await validating.validate(creates(CONFIGMAPS, config()))
    assert (asked[0]["host"], asked[0]["path"]) == ("hook.hooks.svc", "/check?timeout=5s")
