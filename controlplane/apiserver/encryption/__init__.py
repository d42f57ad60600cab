"""Encryption at rest: values in storage are encrypted as --encryption-provider-config says, in upstream's format."""
