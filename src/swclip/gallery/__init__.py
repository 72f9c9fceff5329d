"""A gallery on disk: a Lance table of entries that can be extended, stored with its model. No torch here."""
