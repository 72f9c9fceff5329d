"""The sphere: coordinates, distance, kernels, neighbours, cells. No torch, no input or output."""
