"""The service: photographs in by HTTP or on a page, places out."""
