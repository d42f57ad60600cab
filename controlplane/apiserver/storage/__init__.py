"""Where objects are kept: the contract, etcd for clusters, memory for tests and `navarch dev`."""
