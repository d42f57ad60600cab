"""The IPVS backend: virtual servers in the kernel, ipsets and a few iptables rules around them."""
