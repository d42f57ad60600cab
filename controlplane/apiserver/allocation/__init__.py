"""What Services get from pools that the whole cluster shares: cluster addresses and node ports."""
