"""The camera: level, so that each column of pixels is one ray over the ground.

A level camera keeps walls upright. The horizon lies below the middle of the picture (a shifted lens), because what
stands above eye level tells more about a place than the road does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swclip.synthetic.fields import F32

HORIZON = 0.62
"""Height of the horizon in the picture, from the top, as a share of the height."""


@dataclass(frozen=True)
class Camera:
    """A pinhole at a height above the ground.

    Attributes:
        east_m: Position.
        north_m: Position.
        heading_deg: Clockwise from north.
        size_px: Width and height of the picture.
        height_m: Of the pinhole above the ground.
        fov_deg: Horizontal field of view.
    """

    east_m: float
    north_m: float
    heading_deg: float
    size_px: int
    height_m: float = 2.4
    fov_deg: float = 82.0

    @property
    def focal_px(self) -> float:
        """Distance of the picture from the pinhole, in pixels."""
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
        """(W,) metres to the right for each metre of depth, at the middle of each column."""
        columns = np.arange(self.size_px) + 0.5
        return ((columns - 0.5 * self.size_px) / self.focal_px).astype(np.float32)

    def to_view(self, points_m: NDArray[np.floating]) -> F32:
        """(..., 2) east, north to (..., 2) metres to the right, depth in metres."""
        offset = np.asarray(points_m, dtype=np.float64) - np.array([self.east_m, self.north_m])
        return np.stack([offset @ self.right, offset @ self.forward], axis=-1).astype(np.float32)

    def row_of(self, height_m: F32, depth_m: F32) -> F32:
        """Row coordinate (0 at the top edge) at which a height is seen at a depth."""
        return np.asarray(self.horizon_px - self.focal_px * (height_m - self.height_m) / depth_m, dtype=np.float32)
