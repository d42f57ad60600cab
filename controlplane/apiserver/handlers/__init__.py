"""What answers requests: reads, writes, watches, subresources, discovery, health."""
