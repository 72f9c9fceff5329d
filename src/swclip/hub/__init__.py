"""Publishing of models: the model folder without local paths, the model card, and the upload to a hub."""
