"""Deployments: ReplicaSets made, scaled and retired so that pods change from one template to the next."""
