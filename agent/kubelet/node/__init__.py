"""The node itself: its registration, its heartbeats, and what it can carry."""
