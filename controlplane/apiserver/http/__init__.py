"""HTTP/1.1 on asyncio's transports: as much of a server as the API needs, with nothing between it and the bytes."""
