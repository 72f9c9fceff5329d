"""The dual encoder: image tower, location-as-text, coordinate encoders for comparison, saving and loading."""
