"""The cloud controller manager: what a cluster asks of the cloud that it runs in."""
