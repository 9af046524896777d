"""One program for each SDK: it sends what its users send, several at once where it can, and prints the answers."""
