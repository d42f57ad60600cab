"""Which issuers are trusted, and how their tokens' claims become users: from a file, or from the --oidc flags.

Source: apiserver.config.k8s.io/v1 AuthenticationConfiguration; k8s.io/kubernetes/pkg/kubeapiserver/options.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from controlplane.apiserver.authn.oidc.model import AuthenticationConfiguration
from controlplane.apiserver.authn.oidc.reading import ALGORITHMS, Reader
from controlplane.apiserver.configdocument import read_document
from controlplane.apiserver.settings import Settings
from machinery.api.meta import Object
from machinery.errors import SettingsError

FLAG = "--authentication-config"


def load(path: str, own_issuers: Collection[str]) -> AuthenticationConfiguration:
    """The configuration of a file; `own_issuers` issue service account tokens. Raises SettingsError."""
    return parse(read_document(path, "AuthenticationConfiguration", FLAG), own_issuers, f"{FLAG}: {path}")


def parse(document: Object, own_issuers: Collection[str], where: str) -> AuthenticationConfiguration:
    """A configuration. Raises SettingsError with all that is wrong."""
    reader = Reader(document)
    issuers = reader.issuers(own_issuers)
    anonymous = reader.anonymous()
    if reader.errors:
        told = [str(error) for error in reader.errors]
        raise SettingsError(f"{where}: " + (told[0] if len(told) == 1 else f"[{', '.join(told)}]"))
    return AuthenticationConfiguration(issuers, anonymous)


def from_flags(settings: Settings) -> AuthenticationConfiguration:
    """The issuer of the --oidc flags. Raises SettingsError."""
    url = settings.oidc_issuer_url
    if not url:
        return AuthenticationConfiguration()
    if not settings.oidc_client_id:
        told = "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
        raise SettingsError(told)
    unknown = sorted(set(settings.oidc_signing_algs) - set(ALGORITHMS))
    if unknown:
        raise SettingsError(f"--oidc-signing-algs: unsupported signing alg: {unknown[0]!r}")
    # Names of other claims than the address are known only to their issuer: by default they are prefixed with it.
    prefix = settings.oidc_username_prefix
    if not prefix and settings.oidc_username_claim != "email":
        prefix = f"{url}#"
    authority = ""
    if settings.oidc_ca_file:
        try:
            authority = Path(settings.oidc_ca_file).read_text(encoding="ascii")
        except (OSError, ValueError) as exc:
            raise SettingsError(f"--oidc-ca-file: can't read {settings.oidc_ca_file}: {exc}") from exc
    mappings: Object = {"username": {"claim": settings.oidc_username_claim, "prefix": "" if prefix == "-" else prefix}}
    if settings.oidc_groups_claim:
        mappings["groups"] = {"claim": settings.oidc_groups_claim, "prefix": settings.oidc_groups_prefix}
    jwt: Object = {
        "issuer": {"url": url, "audiences": [settings.oidc_client_id], "certificateAuthority": authority},
        "claimMappings": mappings,
        "claimValidationRules": [
            {"claim": claim, "requiredValue": value} for claim, value in settings.oidc_required_claim
        ],
    }
    made = parse({"jwt": [jwt]}, settings.service_account_issuers, "--oidc-issuer-url")
    algorithms = tuple(settings.oidc_signing_algs)
    return AuthenticationConfiguration(tuple(replace(issuer, algorithms=algorithms) for issuer in made.issuers))
