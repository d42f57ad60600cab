"""Talking to nftables: one atomic script at a time."""
