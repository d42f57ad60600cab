"""Node lifecycle: silent nodes become Unknown, conditions become taints, and NoExecute taints evict pods."""
