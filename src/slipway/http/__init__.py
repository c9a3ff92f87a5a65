"""A lean HTTP/1.1 server and pooled client: knows sockets and bytes, nothing of AWS or endpoints."""
