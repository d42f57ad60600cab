"""The API server: the whole Kubernetes v1.36 API over HTTPS, on etcd."""
