"""The objects that every cluster holds from its start, and how a starting API server sees to it."""
