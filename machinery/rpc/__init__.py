"""A client of gRPC over HTTP/2 that lives on the event loop: unary calls and streams, no threads.

For who makes very many small calls: the API server's calls of etcd.  Source: gRPC over HTTP2 (PROTOCOL-HTTP2.md).
"""
