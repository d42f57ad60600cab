"""ServiceAccounts, certificates, roles and bootstrap tokens against a real API server."""

from __future__ import annotations

import base64

from controllers_cluster import running_cluster, running_manager, story

from machinery import pki
from machinery.api.catalogue import (
    CERTIFICATESIGNINGREQUESTS,
    CLUSTERROLES,
    CONFIGMAPS,
    NAMESPACES,
    SECRETS,
    SERVICEACCOUNTS,
)
from machinery.api.meta import annotations_of, condition, format_time, uid_of
from machinery.clock import SystemClock


async def test_every_namespace_has_an_account_and_the_root_certificate() -> None:
    """Conformance: "should guarantee kube-root-ca.crt exist in any namespace"."""
    async with story("serviceaccount,root-ca-cert-publisher", hollow=False) as cluster:
        await cluster.admin.create(NAMESPACES, {"metadata": {"name": "more"}})
        first = await cluster.object(SERVICEACCOUNTS, "default", bool, "more")
        published = await cluster.object(CONFIGMAPS, "kube-root-ca.crt", bool, "more")
        assert published["data"]["ca.crt"] == cluster.server.ca.decode()
        await cluster.admin.delete(SERVICEACCOUNTS, "default", "more")
        await cluster.object(SERVICEACCOUNTS, "default", lambda a: uid_of(a) != uid_of(first), "more")
        await cluster.admin.delete(CONFIGMAPS, "kube-root-ca.crt", "more")
        await cluster.object(CONFIGMAPS, "kube-root-ca.crt", lambda c: uid_of(c) != uid_of(published), "more")
        await cluster.admin.patch(CONFIGMAPS, "kube-root-ca.crt", {"data": {"ca.crt": "", "x": "y"}}, "more")
        await cluster.object(CONFIGMAPS, "kube-root-ca.crt", lambda c: c["data"] == published["data"], "more")


async def test_a_token_secret_is_filled_and_goes_with_its_account() -> None:
    async with story("serviceaccount-token", hollow=False) as cluster:
        account = await cluster.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "robot"}}, "default")
        annotations = {"kubernetes.io/service-account.name": "robot"}
        secret = {
            "metadata": {"name": "t", "annotations": annotations},
            "type": "kubernetes.io/service-account-token",
        }
        await cluster.admin.create(SECRETS, secret, "default")
        filled = await cluster.object(SECRETS, "t", lambda s: (s.get("data") or {}).get("token"))
        assert annotations_of(filled)["kubernetes.io/service-account.uid"] == uid_of(account)
        assert base64.b64decode(filled["data"]["namespace"]) == b"default"
        assert base64.b64decode(filled["data"]["ca.crt"]) == cluster.server.ca
        await cluster.admin.delete(SERVICEACCOUNTS, "robot", "default")
        await cluster.gone(SECRETS, "t")


async def test_requests_are_signed_once_they_are_approved() -> None:
    async with running_cluster() as cluster:
        authority = pki.make_authority("signer", algorithm="ECDSA-P256")
        certificate, key = cluster.directory / "signer.crt", cluster.directory / "signer.key"
        pki.write_pair(authority, certificate, key)
        names = "certificatesigningrequest-signing-controller,csrapproving,csrcleaner"
        async with running_manager(cluster, names, cluster_signing_cert_file=certificate, cluster_signing_key_file=key):
            request = pki.make_request(pki.new_key("ECDSA-P256"), "jane", organizations=["dev"])
            spec = {
                "request": base64.b64encode(request).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
                "expirationSeconds": 3600,
            }
            csr = await cluster.admin.create(CERTIFICATESIGNINGREQUESTS, {"metadata": {"name": "jane"}, "spec": spec})
            now = format_time(SystemClock().now())
            approved = {"type": "Approved", "status": "True", "reason": "r", "message": "m", "lastUpdateTime": now}
            await cluster.admin.update(
                CERTIFICATESIGNINGREQUESTS, {**csr, "status": {"conditions": [approved]}}, subresource="approval"
            )
            signed = await cluster.object(
                CERTIFICATESIGNINGREQUESTS, "jane", lambda c: (c.get("status") or {}).get("certificate"), ""
            )
            (made,) = pki.load_certificates(base64.b64decode(signed["status"]["certificate"]))
            assert pki.common_name(made) == "jane"
            assert pki.organizations(made) == ["dev"]
            pki.verify_issued_by(made, authority.certificate)
            assert condition(signed["status"]["conditions"], "Approved") is not None


async def test_roles_are_aggregated_by_their_labels() -> None:
    async with story("clusterrole-aggregation", hollow=False) as cluster:
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
        selectors = [{"matchLabels": {"to": "all"}}]
        await cluster.admin.create(
            CLUSTERROLES, {"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": selectors}}
        )
        part = {"metadata": {"name": "part", "labels": {"to": "all"}}, "rules": [rule]}
        await cluster.admin.create(CLUSTERROLES, part)
        await cluster.object(CLUSTERROLES, "all", lambda r: r.get("rules") == [rule], "")
        await cluster.admin.delete(CLUSTERROLES, "part")
        await cluster.object(CLUSTERROLES, "all", lambda r: not r.get("rules"), "")


async def test_bootstrap_tokens_sign_and_expire() -> None:
    async with story("bootstrap-signer-controller,token-cleaner-controller", hollow=False) as cluster:
        data = {"kubeconfig": "apiVersion: v1\nkind: Config\n"}
        await cluster.admin.create(CONFIGMAPS, {"metadata": {"name": "cluster-info"}, "data": data}, "kube-public")

        def token(name: str, **fields: str) -> dict[str, object]:
            text = {"token-id": name, "token-secret": "0123456789abcdef", **fields}
            return {
                "metadata": {"name": f"bootstrap-token-{name}"},
                "type": "bootstrap.kubernetes.io/token",
                "stringData": text,
            }

        signing = {"usage-bootstrap-signing": "true"}
        await cluster.admin.create(SECRETS, token("abcdef", **signing), "kube-system")
        await cluster.object(CONFIGMAPS, "cluster-info", lambda c: "jws-kubeconfig-abcdef" in c["data"], "kube-public")
        past = {"expiration": "2020-01-01T00:00:00Z"}
        await cluster.admin.create(SECRETS, token("past00", **past), "kube-system")
        await cluster.gone(SECRETS, "bootstrap-token-past00", "kube-system")
        await cluster.admin.delete(SECRETS, "bootstrap-token-abcdef", "kube-system")
        await cluster.object(CONFIGMAPS, "cluster-info", lambda c: c["data"] == data, "kube-public")
