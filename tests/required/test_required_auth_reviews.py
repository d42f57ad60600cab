"""Who may do what, and certificates that are asked for."""

from __future__ import annotations

import base64
import datetime

import pytest
from cluster import Cluster, requirement
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from operations import in_discovery
from watching import watching

from machinery.api.catalogue import (
    CERTIFICATESIGNINGREQUESTS,
    LOCALSUBJECTACCESSREVIEWS,
    ROLEBINDINGS,
    ROLES,
    SERVICEACCOUNTS,
    SUBJECTACCESSREVIEWS,
)
from machinery.api.meta import Object, name_of
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "e2e.example.com")])


@requirement("[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]")
async def test_reviews_tell_what_requests_meet(cluster: Cluster) -> None:
    account = await cluster.create(SERVICEACCOUNTS, {"metadata": {"name": "e2e"}})
    user, uid = f"system:serviceaccount:{cluster.namespace}:e2e", account["metadata"]["uid"]
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{cluster.namespace}"]
    attributes = {"verb": "list", "resource": "configmaps", "namespace": cluster.namespace, "version": "v1"}
    spec = {"resourceAttributes": attributes, "user": user, "groups": groups, "uid": uid}

    async def verify(expected: bool) -> None:
        for resource in (SUBJECTACCESSREVIEWS, LOCALSUBJECTACCESSREVIEWS):
            review = await cluster.create(resource, {"spec": spec})
            assert review["status"]["allowed"] is expected, resource.kind
        said = await cluster.kubectl(
            "get", "configmaps", f"--as={user}", f"--as-uid={uid}", *(f"--as-group={each}" for each in groups), check=False
        )  # fmt: skip
        assert ("Forbidden" not in said) is expected, said

    await verify(False)
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    await cluster.create(ROLES, {"metadata": {"name": "lists"}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lists"}
    subject = {"kind": "ServiceAccount", "name": "e2e", "namespace": cluster.namespace}
    await cluster.create(ROLEBINDINGS, {"metadata": {"name": "lists"}, "roleRef": role, "subjects": [subject]})
    await verify(True)


@requirement("[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]")
async def test_signing_requests_are_operated_on(cluster: Cluster) -> None:
    csrs, client = CERTIFICATESIGNINGREQUESTS, cluster.client
    await in_discovery(cluster, csrs)
    served = {each["name"] for each in (await client.request("GET", f"/apis/{csrs.api_version}"))["resources"]}
    assert {csrs.plural, f"{csrs.plural}/approval", f"{csrs.plural}/status"} <= served
    request, certificate = request_and_certificate()
    signer = f"example.com/e2e-{cluster.namespace}"
    spec = {
        "request": request,
        "signerName": signer,
        "expirationSeconds": 3600,
        "usages": ["digital signature", "key encipherment", "server auth"],
    }
    body: Object = {"metadata": {"generateName": "e2e-example-csr-"}, "spec": spec}
    for _ in range(2):
        await cluster.create(csrs, body)
    made = await cluster.create(csrs, body)
    name, uid = name_of(made), made["metadata"]["uid"]

    async def of_the_signer() -> int:
        return len((await client.list(csrs, field_selector=f"spec.signerName={signer}")).items)

    found = await cluster.get(csrs, name)
    assert (found["metadata"]["uid"], found["spec"]["expirationSeconds"]) == (uid, 3600)
    assert await of_the_signer() == 3
    async with watching(cluster, csrs) as seen:
        patched = await cluster.patch(csrs, name, {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await client.update(csrs, patched)
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        event = await seen.until(lambda event: name_of(event.object) == name, "the request changed")
        assert (event.type, event.object["metadata"]["annotations"]) == ("MODIFIED", {"patched": "true"})

    await approve(cluster, name, uid)
    await issue(cluster, name, uid, certificate)
    await client.delete(csrs, name)
    with pytest.raises(NotFound):
        await cluster.get(csrs, name)
    assert await of_the_signer() == 2
    await client.request("DELETE", csrs.path(), query={"fieldSelector": f"spec.signerName={signer}"})
    assert await of_the_signer() == 0


async def approve(cluster: Cluster, name: str, uid: str) -> None:
    csrs, client = CERTIFICATESIGNINGREQUESTS, cluster.client
    got = await client.get(csrs, name, subresource="approval")
    assert (got["apiVersion"], got["kind"], got["metadata"]["uid"]) == (csrs.api_version, csrs.kind, uid)
    condition = {"type": "ApprovalPatch", "status": "True", "reason": "e2e"}
    patch = {"metadata": {"annotations": {"patchedapproval": "true"}}, "status": {"conditions": [condition]}}
    patched = await cluster.patch(csrs, name, patch, subresource="approval")
    assert [each["type"] for each in patched["status"]["conditions"]] == ["ApprovalPatch"]
    assert patched["metadata"]["annotations"]["patchedapproval"] == "true"
    approved = {"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    patched["status"]["conditions"].append(approved)
    updated = await client.update(csrs, patched, subresource="approval")
    assert [each["type"] for each in updated["status"]["conditions"]] == ["ApprovalPatch", "Approved"]


async def issue(cluster: Cluster, name: str, uid: str, certificate: str) -> None:
    csrs, client = CERTIFICATESIGNINGREQUESTS, cluster.client
    got = await client.get(csrs, name, subresource="status")
    assert (got["apiVersion"], got["kind"], got["metadata"]["uid"]) == (csrs.api_version, csrs.kind, uid)
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": certificate}}
    patched = await cluster.patch(csrs, name, patch, subresource="status")
    assert patched["status"]["certificate"] == certificate
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    patched["status"]["conditions"].append(condition)
    updated = await client.update(csrs, patched, subresource="status")
    types = [each["type"] for each in updated["status"]["conditions"]]
    assert types == ["ApprovalPatch", "Approved", "StatusUpdate"]


def request_and_certificate() -> tuple[str, str]:
    """Both in base64 of PEM, as the API has them."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("e2e.example.com")])
    request = x509.CertificateSigningRequestBuilder().subject_name(_NAME).add_extension(names, critical=False)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
    )
    signed = (request.sign(key, hashes.SHA256()), certificate.sign(key, hashes.SHA256()))
    one, two = (base64.b64encode(each.public_bytes(serialization.Encoding.PEM)).decode() for each in signed)
    return one, two
