"""The pod network: addresses for this node's pods, and the way to the pods of other nodes."""
