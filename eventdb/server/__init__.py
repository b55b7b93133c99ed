"""server: ports and sockets in front of a node."""
