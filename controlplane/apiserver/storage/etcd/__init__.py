"""Storage on etcd: stubs of the v3 API, members as one, and the storage contract on top."""
