"""What the kubelet serves on its port 10250."""
