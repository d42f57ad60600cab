"""Users of other identity providers: JSON Web Tokens of trusted issuers (OpenID Connect)."""
