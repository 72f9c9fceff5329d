"""From photographs to a place: embed, gallery, posterior over its candidates, and the answer."""
