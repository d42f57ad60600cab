"""Cluster DNS: names of Services and pods, everything else forwarded."""
