"""Ending pods when the node runs out of memory, disk, inodes or process ids."""
