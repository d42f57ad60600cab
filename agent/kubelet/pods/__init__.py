"""Pods as users want them: where they come from, what to do next, and what to report."""
