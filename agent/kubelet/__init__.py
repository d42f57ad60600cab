"""The node agent: runs the pods bound to its node over CRI and reports how they are."""
