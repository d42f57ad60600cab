"""Service accounts: their lives, their tokens, and what pods get of them."""

from __future__ import annotations

import re

from cluster import Cluster, eventually, pod, requirement, shell, sleeper
from components import python
from objects import replace
from operations import contains
from volumes import mount
from watching import watching

from machinery.api.catalogue import (
    CLUSTERROLEBINDINGS,
    CONFIGMAPS,
    PODS,
    SERVICEACCOUNTS,
    TOKENREVIEWS,
)
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

MOUNTED = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_CA = "kube-root-ca.crt"
DISCOVER = """
import jwt, ssl, urllib.request
token = open("/var/run/secrets/tokens/sa-token").read()
mounted = "/var/run/secrets/kubernetes.io/serviceaccount"
trust = ssl.create_default_context(cafile=f"{mounted}/ca.crt")
def get(url):
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + open(f"{mounted}/token").read()})
    with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
        return answer.headers["Content-Type"], answer.read()
import json
issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
kind, document = get(issuer + "/.well-known/openid-configuration")
told = json.loads(document)
assert kind == "application/json", kind
assert told["issuer"] == issuer, told
keys_kind, keys = get(told["jwks_uri"])
assert keys_kind == "application/jwk-set+json", keys_kind
key = jwt.PyJWKSet.from_json(keys)[jwt.get_unverified_header(token)["kid"]]
algorithms = told["id_token_signing_alg_values_supported"]
claims = jwt.decode(token, key.key, algorithms=algorithms, audience="oidc-discovery-test", issuer=issuer)
print(json.dumps(claims["kubernetes.io"]["serviceaccount"]["name"]))
"""


async def identified(cluster: Cluster, token: str, account: str) -> None:
    """A token is a credential of a service account of the test's namespace."""
    review = await cluster.create(TOKENREVIEWS, {"spec": {"token": token}})
    status = review["status"]
    assert status["authenticated"] is True
    assert not status.get("error")
    assert status["user"]["username"] == f"system:serviceaccount:{cluster.namespace}:{account}"
    groups = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{cluster.namespace}"}
    assert groups <= set(status["user"]["groups"])


@requirement("[sig-auth] ServiceAccounts should mount an API token into pods [Conformance]")
async def test_a_pod_has_its_accounts_token(cluster: Cluster) -> None:
    await cluster.create(SERVICEACCOUNTS, {"metadata": {"name": "mount-test"}})
    await cluster.start(pod("holds", sleeper(), serviceAccountName="mount-test"))
    root = await cluster.get(CONFIGMAPS, ROOT_CA)
    assert await cluster.exec("holds", "cat", f"{MOUNTED}/ca.crt") == root["data"]["ca.crt"]
    assert await cluster.exec("holds", "cat", f"{MOUNTED}/namespace") == cluster.namespace
    await identified(cluster, await cluster.exec("holds", "cat", f"{MOUNTED}/token"), "mount-test")


@requirement("[sig-auth] ServiceAccounts should allow opting out of API token automount [Conformance]")
async def test_tokens_are_not_mounted_where_they_are_not_wanted(cluster: Cluster) -> None:
    for account, wanted in (("mount", True), ("nomount", False)):
        await cluster.create(SERVICEACCOUNTS, {"metadata": {"name": account}, "automountServiceAccountToken": wanted})
    for account, asked, expected in (
        ("default", None, True),
        ("mount", None, True),
        ("nomount", None, False),
        ("default", True, True),
        ("mount", True, True),
        ("nomount", True, True),
        ("default", False, False),
        ("mount", False, False),
        ("nomount", False, False),
    ):
        spec: Object = {"serviceAccountName": account} | (
            {} if asked is None else {"automountServiceAccountToken": asked}
        )
        made = await cluster.create(PODS, pod(f"{account}-{asked}".lower(), sleeper(), **spec))
        mounts = made["spec"]["containers"][0].get("volumeMounts") or ()
        assert (MOUNTED in [each["mountPath"] for each in mounts]) == expected, (account, asked)


@requirement("[sig-auth] ServiceAccounts should mount projected service account token [Conformance]")
async def test_a_volume_projects_a_token(cluster: Cluster) -> None:
    ended = await cluster.run(
        pod(
            "reads",
            shell("cat /test-volume/token", volumeMounts=[mount("/test-volume", readOnly=True)]),
            volumes=[token_volume("v", {"path": "token", "expirationSeconds": 3600})],
        )
    )
    assert ended.phase == "Succeeded"
    assert re.fullmatch(r"[A-Za-z0-9-_=]+\.[A-Za-z0-9-_=]+\.?[A-Za-z0-9-_.+/=]*", ended.log)
    await identified_or_gone(cluster, ended.log)


async def identified_or_gone(cluster: Cluster, token: str) -> None:
    """The token is bound to a pod that ended, and is good as long as that is there."""
    await identified(cluster, token, "default")
    await cluster.delete(PODS, "reads")

    async def refused() -> bool:
        review = await cluster.create(TOKENREVIEWS, {"spec": {"token": token}})
        return not review["status"].get("authenticated")

    await eventually(refused, "the token of the deleted pod refused")


def token_volume(name: str, token: Object) -> Object:
    return {"name": name, "projected": {"sources": [{"serviceAccountToken": token}]}}


@requirement("[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer [Conformance]")  # fmt: skip
async def test_a_pod_discovers_who_issued_its_token(cluster: Cluster) -> None:
    role = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:service-account-issuer-discovery",
    }
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": cluster.namespace}
    name = f"{cluster.namespace}-{role['name']}"
    await cluster.create(CLUSTERROLEBINDINGS, {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]})
    try:
        token = {"path": "sa-token", "expirationSeconds": 600, "audience": "oidc-discovery-test"}
        reads = await python(cluster, DISCOVER, volumeMounts=[mount("/var/run/secrets/tokens", readOnly=True)])
        ended = await cluster.run(
            pod("discovers", reads, serviceAccountName="default", volumes=[token_volume("v", token)])
        )
        assert (ended.phase, ended.log) == ("Succeeded", '"default"\n'), ended.log
    finally:
        await cluster.delete(CLUSTERROLEBINDINGS, name)


@requirement("[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]")  # fmt: skip
async def test_a_token_is_made_on_request(cluster: Cluster) -> None:
    made = await cluster.create(SERVICEACCOUNTS, {"metadata": {"name": "e2e-sa"}})
    assert made["metadata"]["name"] == "e2e-sa"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = await cluster.client.create_subresource(SERVICEACCOUNTS, "e2e-sa", "token", request, cluster.namespace)
    assert answer["status"]["token"]
    await identified(cluster, answer["status"]["token"], "e2e-sa")


@requirement("[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]")
async def test_the_root_certificate_is_in_every_namespace(cluster: Cluster) -> None:
    async def found() -> Object | None:
        try:
            return await cluster.get(CONFIGMAPS, ROOT_CA)
        except NotFound:
            return None

    first: Object = await eventually(found, f"{ROOT_CA} made")
    await cluster.client.delete(CONFIGMAPS, ROOT_CA, cluster.namespace, grace_seconds=0)

    async def made_again() -> bool:
        now = await found()
        return now is not None and now["metadata"]["uid"] != first["metadata"]["uid"] and now["data"] == first["data"]

    await eventually(made_again, f"{ROOT_CA} made again")
    metadata = {"name": ROOT_CA, "namespace": cluster.namespace}
    emptied: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": ""}}
    await cluster.client.update(CONFIGMAPS, emptied)
    await cluster.object_that(CONFIGMAPS, ROOT_CA, lambda now: now["data"] == first["data"], "filled again")


@requirement("[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]")
async def test_an_account_is_lived_through(cluster: Cluster) -> None:
    label = {"test-serviceaccount-static": cluster.namespace}
    selector = f"test-serviceaccount-static={cluster.namespace}"
    async with watching(cluster, SERVICEACCOUNTS, selector) as seen:
        await cluster.create(SERVICEACCOUNTS, {"metadata": {"name": "testserviceaccount", "labels": label}})
        await seen.until(lambda event: event.type == "ADDED", "added")
        await cluster.patch(
            SERVICEACCOUNTS, "testserviceaccount", {"automountServiceAccountToken": False}, content_type=STRATEGIC
        )
        await seen.modified(lambda found: found["automountServiceAccountToken"] is False, "patched")
        everywhere = (await cluster.client.list(SERVICEACCOUNTS, label_selector=selector)).items
        wanted = {"metadata": {"name": "testserviceaccount", "namespace": cluster.namespace}}
        assert len(everywhere) == 1
        assert contains(everywhere[0], wanted | {"automountServiceAccountToken": False})
        await cluster.client.request("DELETE", SERVICEACCOUNTS.path(cluster.namespace))
        await seen.deleted("testserviceaccount")


@requirement("[sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]")
async def test_an_account_is_updated(cluster: Cluster) -> None:
    made = await cluster.create(
        SERVICEACCOUNTS, {"metadata": {"name": "e2e-sa"}, "automountServiceAccountToken": False}
    )
    assert made["automountServiceAccountToken"] is False
    updated = await replace(
        cluster, SERVICEACCOUNTS, "e2e-sa", lambda found: found.update(automountServiceAccountToken=True)
    )
    assert updated["automountServiceAccountToken"] is True
