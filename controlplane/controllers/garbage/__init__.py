"""The garbage collector: what has lost its owners goes, at once, after its dependants, or never (orphan)."""
