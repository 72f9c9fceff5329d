"""A level camera: each column of pixels is one ray over the ground.

A level camera keeps walls vertical. The horizon is below the middle of the picture (lens shift), because the part above
eye level is more informative about a place than the road.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.fields import F32

HORIZON = 0.62
"""Distance of the horizon from the top of the picture, as a share of its height."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the ground.

    Attributes:
        east_m: Position east, metres.
        north_m: Position north, metres.
        heading_deg: Direction of view, degrees clockwise from north.
        size_px: Width and height of the picture, pixels.
        height_m: Height above the ground, metres.
        fov_deg: Horizontal field of view, degrees.
    """

    east_m: float
    north_m: float
    heading_deg: float
    size_px: int
    height_m: float = 2.4
    fov_deg: float = 82.0

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return 0.5 * self.size_px / float(np.tan(np.radians(0.5 * self.fov_deg)))

    @property
    def horizon_px(self) -> float:
        """Row coordinate of the horizon."""
        return HORIZON * self.size_px

    @property
    def forward(self) -> NDArray[np.float64]:
        """(2,) unit vector of view: east, north."""
        a = np.radians(self.heading_deg)
        return np.array([np.sin(a), np.cos(a)])

    @property
    def right(self) -> NDArray[np.float64]:
        """(2,) unit vector to the right: east, north."""
        a = np.radians(self.heading_deg)
        return np.array([np.cos(a), -np.sin(a)])

    def slopes(self) -> F32:
        """Return (W,) metres to the right per metre of depth, at the centre of each column."""
        columns = np.arange(self.size_px) + 0.5
        return ((columns - 0.5 * self.size_px) / self.focal_px).astype(np.float32)

    def to_view(self, points_m: NDArray[np.floating]) -> F32:
        """Convert (..., 2) east, north to (..., 2) metres to the right, depth in metres."""
        offset = np.asarray(points_m, dtype=np.float64) - np.array([self.east_m, self.north_m])
        return np.stack([offset @ self.right, offset @ self.forward], axis=-1).astype(np.float32)

    def row_of(self, height_m: F32, depth_m: F32) -> F32:
        """Return the row coordinate (0 at the top edge) of a height at a depth."""
        return np.asarray(self.horizon_px - self.focal_px * (height_m - self.height_m) / depth_m, dtype=np.float32)
