"""Geography: coordinates, distances, kernels, neighbours, cells and areas. Needs no torch."""
