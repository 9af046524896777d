"""What limiters on a server are measured with: the server, a network that takes time, and the work. See `process`."""
