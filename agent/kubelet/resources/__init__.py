"""Static managers: processors that a container has for itself."""
