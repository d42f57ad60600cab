"""What is known of trusted issuers, and of those who show nothing.

Source: apiserver.config.k8s.io/v1 AuthenticationConfiguration.
"""

from __future__ import annotations

from dataclasses import dataclass

from machinery.cel.environment import Program


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where a part of the user comes from: a claim with a prefix, or an expression; neither: it is empty."""

    claim: str = ""
    prefix: str = ""
    expression: Program | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold of the claims or of the user."""

    expression: Program
    message: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """One provider whose tokens are trusted."""

    url: str
    discovery_url: str
    certificate_authority: str
    """PEM; empty: the system's."""
    audiences: tuple[str, ...]
    username: Mapping = Mapping()
    groups: Mapping = Mapping()
    uid: Mapping = Mapping()
    extra: tuple[tuple[str, Program], ...] = ()
    required: tuple[tuple[str, str], ...] = ()
    """Claims and the values they must have."""
    claim_rules: tuple[Rule, ...] = ()
    user_rules: tuple[Rule, ...] = ()
    algorithms: tuple[str, ...] = ("RS256",)


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Whether those who show nothing are let in, and on which paths alone (none: everywhere)."""

    enabled: bool
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthenticationConfiguration:
    """What the file says. `anonymous` None: what --anonymous-auth says."""

    issuers: tuple[Issuer, ...] = ()
    anonymous: Anonymous | None = None
