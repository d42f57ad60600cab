"""Control groups of quality-of-service classes and pods."""
