"""TokenReview and SelfSubjectReview: who is this token, who am I.

Source: k8s.io/kubernetes/pkg/registry/authentication/{tokenreview,selfsubjectreview}.
"""

from __future__ import annotations

from controlplane.apiserver.authn.chain import Tokens
from controlplane.apiserver.handlers.contract import Call
from controlplane.apiserver.request import User
from machinery.api.meta import Object
from machinery.errors import BadRequest, Unauthorized


def user_info(user: User) -> Object:
    """A user as authentication/v1 UserInfo."""
    info: Object = {}
    if user.name:
        info["username"] = user.name
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in sorted(user.extra.items())}
    return info


class TokenReviews:
    """Answers TokenReviews."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, call: Call) -> Object:
        """The review with its status. Raises BadRequest."""
        spec = call.object.get("spec") or {}
        token = spec.get("token") or ""
        if not token:
            raise BadRequest("token is required for TokenReview in authentication")
        status: Object
        try:
            found = await self._tokens.authenticate(token, tuple(spec.get("audiences") or ()))
        except Unauthorized as exc:
            status = {"user": {}, "error": exc.message}
        else:
            status = {"authenticated": True, "user": user_info(found.user)}
            if found.audiences:
                status["audiences"] = list(found.audiences)
        return call.object | {"status": status}


async def self_subject_review(call: Call) -> Object:
    """The caller, as the server sees him."""
    metadata = (call.object.get("metadata") or {}) | {"creationTimestamp": call.now}
    return call.object | {"metadata": metadata, "status": {"userInfo": user_info(call.user)}}
