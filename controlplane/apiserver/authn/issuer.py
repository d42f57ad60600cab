"""Issues service-account tokens, and publishes how others can verify them.

Source: k8s.io/kubernetes/pkg/serviceaccount/{claims,jwt,openidmetadata}.go; KEP-1205, KEP-1393, KEP-4193.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
import orjson

from controlplane.apiserver.authn.identity import service_account_name
from controlplane.apiserver.authn.keys import PrivateKey, VerificationKey, verification_key
from machinery.api.meta import Object, name_of, namespace_of, uid_of


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Signs tokens in the name of one issuer."""

    issuer: str
    key: PrivateKey = field(repr=False)
    _verification: VerificationKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_verification", verification_key(self.key.public_key()))

    def issue(
        self,
        account: Object,
        *,
        audiences: Sequence[str],
        now: int,
        seconds: int,
        warn_after_seconds: int = 0,
        bound: Sequence[tuple[str, Object]] = (),
    ) -> str:
        """A token for a ServiceAccount.

        `now` is in seconds of Unix time; `bound` are the objects it depends on, by their claim: pod, secret, node.
        """
        kubernetes: dict[str, Any] = {
            "namespace": namespace_of(account),
            "serviceaccount": {"name": name_of(account), "uid": uid_of(account)},
        }
        for claim, obj in bound:
            kubernetes[claim] = {"name": name_of(obj)} | ({"uid": uid_of(obj)} if uid_of(obj) else {})
        if warn_after_seconds:
            kubernetes["warnafter"] = now + warn_after_seconds
        claims = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": kubernetes,
            "nbf": now,
            "sub": service_account_name(namespace_of(account), name_of(account)),
        }
        headers = {"kid": self._verification.key_id, "typ": None}
        return jwt.encode(claims, self.key, algorithm=self._verification.algorithm, headers=headers)


def discovery_document(issuer: str, jwks_uri: str, keys: Sequence[VerificationKey]) -> bytes | None:
    """`/.well-known/openid-configuration`, or None if the issuer is not a URL that OpenID Connect accepts."""
    parts = urlsplit(issuer)
    if parts.scheme != "https" or parts.query or parts.fragment:
        return None
    return orjson.dumps(
        {
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.algorithm for key in keys}),
        }
    )


def key_set(keys: Sequence[VerificationKey]) -> bytes:
    """`/openid/v1/jwks`."""
    return orjson.dumps({"keys": [key.jwk() for key in keys]})
