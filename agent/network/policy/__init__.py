"""NetworkPolicy: who may talk to this node's pods, and to whom they may."""
