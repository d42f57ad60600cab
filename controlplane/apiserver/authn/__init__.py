"""Who asks: certificates, tokens, front proxies, impersonation."""
