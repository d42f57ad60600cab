"""Hangs authentication into the API server: from its settings to its Extensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.apiserver.authn.bootstraptoken import BootstrapTokens
from controlplane.apiserver.authn.chain import Chain, TokenAuthenticator, Tokens
from controlplane.apiserver.authn.contract import Authenticator
from controlplane.apiserver.authn.impersonation import Impersonation
from controlplane.apiserver.authn.issuer import TokenIssuer, discovery_document, key_set
from controlplane.apiserver.authn.keys import VerificationKey, load_signing_key, load_verification_keys
from controlplane.apiserver.authn.legacy import LegacyTokens
from controlplane.apiserver.authn.oidc import configuration
from controlplane.apiserver.authn.oidc.authenticator import IssuedTokens
from controlplane.apiserver.authn.oidc.model import Anonymous, AuthenticationConfiguration
from controlplane.apiserver.authn.requestheader import FrontProxy
from controlplane.apiserver.authn.reviews import TokenReviews, self_subject_review
from controlplane.apiserver.authn.serviceaccount import ServiceAccountTokens
from controlplane.apiserver.authn.tokenfile import TokenFile
from controlplane.apiserver.authn.tokenrequest import TokenRequests
from controlplane.apiserver.authn.webhook import TokenWebhook
from controlplane.apiserver.authn.x509 import ClientCertificates, Peers, load_authorities
from controlplane.apiserver.bootstrap.reconcile import ensure_namespaces
from controlplane.apiserver.handlers.contract import (
    Authorize,
    Extensions,
    Loopback,
    PathAnswer,
    PathHandler,
    VirtualHandler,
)
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.settings import Settings
from machinery.api.catalogue import SELFSUBJECTREVIEWS, SERVICEACCOUNTS, TOKENREVIEWS
from machinery.api.resource import ResourceType
from machinery.clock import Clock, SystemClock
from machinery.errors import SettingsError

DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/openid/v1/jwks"
_CACHEABLE = {"Cache-Control": "public, max-age=3600"}


def build(
    settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize, *, clock: Clock | None = None
) -> Extensions:
    """Authenticators, impersonation, TokenRequest, TokenReview, discovery documents. Raises SettingsError."""
    clock = clock or SystemClock()
    audiences = tuple(settings.api_audiences) or tuple(settings.service_account_issuers[:1])
    keys = verification_keys(settings)
    configured = _configured(settings)
    issued = [IssuedTokens(issuer, clock) for issuer in configured.issuers]
    legacy = LegacyTokens(loopback, clock)
    tokens = Tokens([*_token_kinds(settings, reader, keys, audiences, legacy), *issued], audiences)

    async def track(api: Loopback, reader: Reader) -> None:
        await ensure_namespaces(api)
        await legacy.track()

    anonymous = configured.anonymous or Anonymous(settings.anonymous_auth)
    chain = Chain(_ways(settings), tokens, anonymous=anonymous.enabled, anonymous_paths=anonymous.paths)
    virtual: dict[tuple[ResourceType, str], VirtualHandler] = {
        (TOKENREVIEWS, ""): TokenReviews(tokens),
        (SELFSUBJECTREVIEWS, ""): self_subject_review,
    }
    if settings.service_account_signing_key_file:
        issuer = TokenIssuer(
            settings.service_account_issuers[0],
            load_signing_key(settings.service_account_signing_key_file, "--service-account-signing-key-file"),
        )
        virtual[SERVICEACCOUNTS, "token"] = TokenRequests(
            issuer,
            reader,
            clock,
            audiences,
            int(settings.service_account_max_token_expiration_seconds),
            settings.service_account_extend_token_expiration,
        )
    return Extensions(
        authenticators=(chain,),
        impersonate=Impersonation(authorize),
        virtual=virtual,
        paths=_discovery(settings, keys),
        start_hooks={"start-legacy-token-tracking-controller": track},
    )


def _configured(settings: Settings) -> AuthenticationConfiguration:
    """Other identity providers. Raises SettingsError."""
    if not settings.authentication_config:
        return configuration.from_flags(settings)
    if settings.oidc_issuer_url or settings.oidc_client_id:
        raise SettingsError("authentication-config file and oidc-* flags are mutually exclusive")
    return configuration.load(settings.authentication_config, settings.service_account_issuers)


def verification_keys(settings: Settings) -> tuple[VerificationKey, ...]:
    """The keys that service-account tokens are verified with. Raises SettingsError."""
    if settings.service_account_signing_key_file and not settings.service_account_issuers:
        raise SettingsError("--service-account-issuer is needed together with --service-account-signing-key-file")
    if settings.service_account_key_files:
        return load_verification_keys(settings.service_account_key_files, "--service-account-key-file")
    if settings.service_account_signing_key_file:
        return load_verification_keys([settings.service_account_signing_key_file], "--service-account-signing-key-file")
    if settings.tls_private_key_file:
        # Upstream's default: the key the server itself is known by.
        return load_verification_keys([settings.tls_private_key_file], "--tls-private-key-file")
    return ()


def _ways(settings: Settings) -> Sequence[Authenticator]:
    clients = load_authorities(settings.client_ca_file, "--client-ca-file") if settings.client_ca_file else ()
    proxies = (
        load_authorities(settings.requestheader_client_ca_file, "--requestheader-client-ca-file")
        if settings.requestheader_client_ca_file
        else ()
    )
    ways: list[Authenticator] = []
    if proxies:
        if not settings.requestheader_username_headers:
            raise SettingsError("--requestheader-username-headers is needed with --requestheader-client-ca-file")
        ways.append(
            FrontProxy(
                Peers(proxies),
                allowed_names=settings.requestheader_allowed_names,
                username_headers=settings.requestheader_username_headers,
                uid_headers=settings.requestheader_uid_headers,
                group_headers=settings.requestheader_group_headers,
                extra_prefixes=settings.requestheader_extra_headers_prefix,
            )
        )
    if clients:
        ways.append(ClientCertificates(Peers(clients)))
    return ways


def _token_kinds(
    settings: Settings,
    reader: Reader,
    keys: Sequence[VerificationKey],
    audiences: Sequence[str],
    legacy: LegacyTokens,
) -> Sequence[TokenAuthenticator]:
    kinds: list[TokenAuthenticator] = []
    clock = legacy.clock
    if settings.token_auth_file:
        kinds.append(TokenFile(settings.token_auth_file))
    if keys:
        kinds.append(
            ServiceAccountTokens(
                keys,
                settings.service_account_issuers,
                audiences,
                reader,
                clock,
                lookup=settings.service_account_lookup,
                legacy=legacy,
            )
        )
    if settings.enable_bootstrap_token_auth:
        kinds.append(BootstrapTokens(reader, clock.now))
    if settings.authentication_token_webhook_config_file:
        kinds.append(TokenWebhook(settings.authentication_token_webhook_config_file, clock))
    return kinds


@dataclass(frozen=True, slots=True)
class _Document:
    """A path that always answers the same."""

    answer: PathAnswer

    async def __call__(self, headers: Mapping[str, str]) -> PathAnswer:
        return self.answer


def _discovery(settings: Settings, keys: Sequence[VerificationKey]) -> dict[str, PathHandler]:
    if not settings.service_account_issuers or not keys:
        return {}
    host = settings.external_hostname or settings.advertise_address or settings.bind_address
    host = f"[{host}]" if ":" in host else host
    uri = settings.service_account_jwks_uri or f"https://{host}:{settings.secure_port}{KEYS_PATH}"
    document = discovery_document(settings.service_account_issuers[0], uri, keys)
    if document is None:
        return {}
    return {
        DISCOVERY_PATH: _Document(PathAnswer(document, "application/json", headers=_CACHEABLE)),
        KEYS_PATH: _Document(PathAnswer(key_set(keys), "application/jwk-set+json", headers=_CACHEABLE)),
    }
