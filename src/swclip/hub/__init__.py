"""Publishing a model: its folder without names of this machine, its card, and the upload to a hub."""
