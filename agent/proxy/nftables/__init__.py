"""The nftables backend: one table a family, flat maps, one transaction a change."""
