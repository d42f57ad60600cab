"""The iptables backend: upstream's chains, restored without flushing, and only those that changed."""
