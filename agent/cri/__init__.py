"""The client of container runtimes: CRI v1 over gRPC."""
