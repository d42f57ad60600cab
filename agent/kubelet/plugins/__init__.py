"""Plugins on this node: drivers of volumes, devices and dynamic resources, each behind a gRPC socket of its own."""
