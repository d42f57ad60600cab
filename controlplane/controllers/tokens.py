"""Secrets of type kubernetes.io/service-account-token: filled when they are made, gone with their ServiceAccount.

Source: k8s.io/kubernetes/pkg/controller/serviceaccount/tokens_controller.go, legacy_serviceaccount_token_cleaner.go.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controlplane.controllers.environment import Environment
from machinery import pki
from machinery.api.catalogue import CONFIGMAPS, PODS, SECRETS, SERVICEACCOUNTS
from machinery.api.meta import Object, annotations_of, key_of, labels_of, name_of, namespace_of, uid_of
from machinery.cache.informer import Informer
from machinery.client.rest import MERGE, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound, SettingsError
from machinery.periodic import every
from machinery.pki import PKIError, PrivateKey

ACCOUNT = ""  # the manager itself: no role lets a ServiceAccount make tokens for others
CLEANER_ACCOUNT = "legacy-service-account-token-cleaner"
TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
_LAST_USED, _INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
_CLEAN_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class TokenSigner:
    """Makes tokens that API servers know by their key."""

    key: PrivateKey
    key_id: str
    algorithm: str

    @classmethod
    def of(cls, key: PrivateKey) -> TokenSigner:
        """A signer with this key; its id is the hash of the public key, as API servers compute it."""
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key_id = base64.urlsafe_b64encode(hashlib.sha256(public).digest()).rstrip(b"=").decode()
        if isinstance(key, rsa.RSAPrivateKey):
            return cls(key, key_id, "RS256")
        if isinstance(key, ec.EllipticCurvePrivateKey):
            sizes = {256: "ES256", 384: "ES384", 521: "ES512"}
            return cls(key, key_id, sizes[key.curve.key_size])
        raise PKIError("tokens can be signed with an RSA or an EC key")

    def token(self, account: Object, secret: Object) -> str:
        """A token without an end, valid as long as Secret and ServiceAccount live."""
        namespace, name = namespace_of(account), name_of(account)
        claims = {
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": name_of(secret),
            "kubernetes.io/serviceaccount/service-account.name": name,
            "kubernetes.io/serviceaccount/service-account.uid": uid_of(account),
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers={"kid": self.key_id})


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def filled(secret: Object, account: Object, signer: TokenSigner, bundle: bytes) -> Object:
    """The Secret with token, CA and namespace, and the annotation that binds it to this very ServiceAccount."""
    data = dict(secret.get("data") or {})
    if not data.get("token"):
        data["token"] = _encoded(signer.token(account, secret).encode())
    if bundle:
        data["ca.crt"] = _encoded(bundle)
    data["namespace"] = _encoded(namespace_of(secret).encode())
    annotations = {**annotations_of(secret), NAME: name_of(account), UID: uid_of(account)}
    if data == (secret.get("data") or {}) and annotations == annotations_of(secret):
        return secret
    return {**secret, "metadata": {**secret["metadata"], "annotations": annotations}, "data": data}


@dataclass(frozen=True)
class TokenReconciler:
    """Keeps one token Secret."""

    secrets: Informer
    accounts: Informer
    client: Client
    signer: TokenSigner
    bundle: bytes

    async def reconcile(self, key: str) -> float | None:
        """Fill the Secret, or delete it if its ServiceAccount is not there."""
        secret = self.secrets.get(key)
        if secret is None:
            return None
        name = annotations_of(secret).get(NAME, "")
        account = self.accounts.get(f"{namespace_of(secret)}/{name}") if name else None
        if account is None or annotations_of(secret).get(UID, uid_of(account)) != uid_of(account):
            account = await self._look_up(secret, name)
        if account is None:
            await self._delete(secret)
            return None
        wanted = filled(secret, account, self.signer, self.bundle)
        if wanted is not secret:
            await self.client.update(SECRETS, wanted)
        return None

    async def _look_up(self, secret: Object, name: str) -> Object | None:
        """Ask the API server: a Secret must not go because the cache is behind."""
        if not name:
            return None
        try:
            account = await self.client.get(SERVICEACCOUNTS, name, namespace_of(secret))
        except NotFound:
            return None
        return account if annotations_of(secret).get(UID, uid_of(account)) == uid_of(account) else None

    async def _delete(self, secret: Object) -> None:
        try:
            await self.client.delete(SECRETS, name_of(secret), namespace_of(secret), uid=uid_of(secret))
        except NotFound:
            return


# -- cleaning ------------------------------------------------------------------------------------------------------


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def is_unused(secret: Object, tracked_since: datetime, now: datetime, period: timedelta) -> bool:
    """Whether the token has not been used for `period`, and use has been tracked for as long."""
    last = _day(labels_of(secret).get(_LAST_USED, "")) or tracked_since
    return now - max(last, tracked_since) > period


@dataclass(frozen=True)
class TokenCleaner:
    """Marks auto-generated tokens that nobody uses as invalid, and deletes them as long again later."""

    secrets: Informer
    accounts: Informer
    pods: Informer
    client: Client
    clock: Clock
    period: timedelta

    async def clean(self) -> None:
        """One round."""
        try:
            tracking = await self.client.get(CONFIGMAPS, _TRACKING, "kube-system")
        except NotFound:
            return
        since = _day((tracking.get("data") or {}).get("since", ""))
        if since is None:
            return
        now = self.clock.now()
        for secret in self.secrets.list():
            if (
                self._is_generated(secret)
                and not self._is_mounted(secret)
                and is_unused(secret, since, now, self.period)
            ):
                await self._retire(secret, now)

    def _is_generated(self, secret: Object) -> bool:
        """Whether the ServiceAccount lists the Secret, which only the old automatism did."""
        account = self.accounts.get(f"{namespace_of(secret)}/{annotations_of(secret).get(NAME, '')}")
        return account is not None and any(s.get("name") == name_of(secret) for s in account.get("secrets") or ())

    def _is_mounted(self, secret: Object) -> bool:
        return any(
            (volume.get("secret") or {}).get("secretName") == name_of(secret)
            for pod in self.pods.list(namespace_of(secret))
            for volume in pod["spec"].get("volumes") or ()
        )

    async def _retire(self, secret: Object, now: datetime) -> None:
        invalid_since = _day(labels_of(secret).get(_INVALID_SINCE, ""))
        name, namespace = name_of(secret), namespace_of(secret)
        try:
            if invalid_since is None:
                patch = {"metadata": {"uid": uid_of(secret), "labels": {_INVALID_SINCE: f"{now:%Y-%m-%d}"}}}
                await self.client.patch(SECRETS, name, patch, namespace, content_type=MERGE)
            elif now - invalid_since > self.period:
                await self.client.delete(SECRETS, name, namespace, uid=uid_of(secret))
        except NotFound:
            return


def _secrets(env: Environment) -> Informer:
    return env.informers.of(SECRETS, field_selector=f"type={TYPE}")


def build(env: Environment) -> list[Controller]:
    """The controller of token Secrets; nothing without --service-account-private-key-file. Raises SettingsError."""
    key_file, ca_file = env.options["service-account-private-key-file"], env.options["root-ca-file"]
    if not key_file:
        return []
    try:
        signer = TokenSigner.of(pki.read_key(Path(key_file)))
        bundle = Path(ca_file).read_bytes() if ca_file else b""
    except PKIError as exc:
        raise SettingsError(f"--service-account-private-key-file: {exc}") from exc
    except OSError as exc:
        raise SettingsError(f"--root-ca-file: cannot read {ca_file}: {exc.strerror}") from exc
    secrets, accounts = _secrets(env), env.informer(SERVICEACCOUNTS)
    reconciler = TokenReconciler(secrets, accounts, env.client_for(ACCOUNT), signer, bundle)
    workers = env.options.concurrent("serviceaccount-token")
    controller = Controller("serviceaccount_tokens_secret", reconciler.reconcile, workers=workers)

    def account_changed(old: Object | None, new: Object | None) -> None:
        account = new or old or {}
        for secret in secrets.list(namespace_of(account)):
            if annotations_of(secret).get(NAME) == name_of(account):
                controller.enqueue(key_of(secret))

    secrets.on_change(lambda old, new: controller.enqueue(key_of(new)) if new is not None else None)
    accounts.on_change(account_changed)
    return [controller]


def build_cleaner(env: Environment) -> list[Controller]:
    """The cleaner of tokens nobody uses."""
    cleaner = TokenCleaner(
        secrets=_secrets(env),
        accounts=env.informer(SERVICEACCOUNTS),
        pods=env.informer(PODS),
        client=env.client_for(CLEANER_ACCOUNT),
        clock=env.clock,
        period=timedelta(seconds=env.options["legacy-service-account-token-clean-up-period"]),
    )
    return [every("legacy_service_account_token_cleaner", _CLEAN_SECONDS, cleaner.clean)]
