"""Strategies of the built-in kinds, a family in each file; each file exports STRATEGIES."""
