"""A gallery on disk: one Lance table of entries that grows, and the model beside it. No torch here."""
