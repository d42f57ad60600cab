"""What WebSocket clients of exec, attach and port-forward say, for kubelets that speak SPDY."""
