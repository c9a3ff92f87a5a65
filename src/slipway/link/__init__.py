"""Messages between slipway's processes, over unix sockets (or TCP with mutual TLS): values as JSON, one frame each."""
