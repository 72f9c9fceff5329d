"""How does one command use many processors and machines? Embedding and locating on Ray Data."""
