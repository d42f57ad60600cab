"""Nodes whose pods only pretend to run: all that the API shows of a node and its pods, and no container."""
