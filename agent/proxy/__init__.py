"""The service proxy: Services made true on this node (kube-proxy's part)."""
