"""Volumes of pods: made, kept up to date, and taken away."""
