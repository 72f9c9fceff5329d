"""Perspective views of equirectangular panoramas: levelled, without seams, and without aliasing.

A panorama's pixels are directions: longitude to the right from -180 degrees at the left edge, latitude down from 90
degrees at the top. The XMP properties GPano state which part of the sphere a picture covers, and how the camera stood.

References:
    Google, "Photo Sphere XMP Metadata" (2013, revised 2023).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from swclip.errors import ConfigError
from swclip.files import atomic_file
from swclip.imaging.decode import MAX_PIXELS, decode_photograph

if TYPE_CHECKING:
    from torch import Tensor

Evidence = Literal["gpano", "service", "edges", "ratio"]
Which = Literal["auto", "gpano", "all"]

MIN_COVERED = 0.5
"""Views of which a cropped panorama shows a smaller share are not made."""

_VERSION = 1  # of the pixels: with another one, every view is made again
_JPEG_QUALITY = 95
_MAX_VIEWS = 360
_MAX_SIDE_PX = 4_096
_SAMPLES_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Panorama:
    """The part of the sphere that a picture covers, and how the camera stood.

    Attributes:
        evidence: Why it is taken for a panorama: its XMP packet (gpano); the catalogue of the service that it comes
            from (service); its left and right edges join (edges); or no more than that it is twice as wide as high
            (ratio).
        heading_deg: Compass direction of the centre of the whole panorama, degrees clockwise from true north; None if
            unknown.
        pitch_deg: Elevation of that centre above the horizon, degrees.
        roll_deg: Roll of the camera, degrees; the horizon rotates counterclockwise in the picture as it grows.
        left: Left edge of the picture as a share of the width of the whole panorama, 0 to 1.
        top: Upper edge as a share of its height.
        width: Width of the picture as a share of that of the whole panorama.
        height: Height, likewise.
        problem: Why no views can be made of it, in words.
    """

    evidence: Evidence
    heading_deg: float | None = None
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    problem: str | None = None


@dataclass(frozen=True)
class ViewOptions:
    """The perspective views of each panorama.

    Attributes:
        views: Number of views at equal steps, from north; from the picture's centre if its heading is unknown.
        headings_deg: Instead of a number: the directions, degrees clockwise from north or from that centre.
        fov_deg: Horizontal field of view, degrees.
        pitch_deg: Elevation of the views' centres above the horizon, degrees.
        width_px: Width of a view, pixels.
        height_px: Height of a view, pixels.
        level: Undo the pitch and roll of the camera.
        panoramas: Which pictures are panoramas: those that GPano or their service declares, and those of twice their
            height whose edges join (auto); those of GPano alone (gpano); or all pictures of twice their height (all).

    Raises:
        ConfigError: A value is impossible.
    """

    views: int | None = None
    headings_deg: tuple[float, ...] = ()
    fov_deg: float = 90.0
    pitch_deg: float = 0.0
    width_px: int = 640
    height_px: int = 640
    level: bool = True
    panoramas: Which = "auto"

    def __post_init__(self) -> None:
        if (self.views is None) == (not self.headings_deg):
            raise ConfigError("views of panoramas need a number of views, or their headings; give one of the two.")
        if self.views is not None and not 1 <= self.views <= _MAX_VIEWS:
            raise ConfigError(f"{self.views} views of a panorama are impossible; give 1 to {_MAX_VIEWS}.")
        wrong = [heading for heading in self.headings_deg if not math.isfinite(heading)]
        if wrong or len({_name_of_angle(heading) for heading in self.headings_deg}) < len(self.headings_deg):
            shown = ", ".join(f"{heading:g}" for heading in self.headings_deg)
            raise ConfigError(f"the headings {shown} of views must be different numbers of degrees.")
        if not 1.0 <= self.fov_deg <= 150.0:
            raise ConfigError(f"a field of view of {self.fov_deg:g} degrees is impossible; give 1 to 150.")
        if not -90.0 <= self.pitch_deg <= 90.0:
            raise ConfigError(f"a pitch of {self.pitch_deg:g} degrees is impossible; give -90 to 90.")
        if not (1 <= self.width_px <= _MAX_SIDE_PX and 1 <= self.height_px <= _MAX_SIDE_PX):
            raise ConfigError(
                f"views of {self.width_px} x {self.height_px} pixels are impossible; give sides of 1 to {_MAX_SIDE_PX}."
            )
        if self.panoramas not in ("auto", "gpano", "all"):
            raise ConfigError(f"panoramas {self.panoramas!r} is not known; choose one of auto, gpano, all.")

    @property
    def directions_deg(self) -> tuple[float, ...]:
        """The directions of the views, 0 to 360 degrees."""
        given = self.headings_deg if self.views is None else [360.0 * k / self.views for k in range(self.views)]
        return tuple(heading % 360.0 for heading in given)

    def includes(self, panorama: Panorama | None) -> bool:
        """Whether views are made of a picture."""
        declared = ("gpano", "service")
        wanted = {"auto": (*declared, "edges"), "gpano": ("gpano",), "all": (*declared, "edges", "ratio")}
        return panorama is not None and panorama.problem is None and panorama.evidence in wanted[self.panoramas]


def as_view_options(views: int | ViewOptions | None) -> ViewOptions | None:
    """All options of a number of views.

    Raises:
        ConfigError: The number is impossible.
    """
    return ViewOptions(views) if isinstance(views, int) else views


def perspective_views(
    picture: UInt8[np.ndarray, "h w 3"] | Image.Image,
    panorama: Panorama,
    options: ViewOptions,
    headings_deg: Sequence[float] | None = None,
) -> Iterator[UInt8[np.ndarray, "height_px width_px 3"]]:
    """Render views of a panorama.

    Where a view has fewer pixels than the panorama, each of its pixels is the mean of a square of bilinear samples of
    the panorama, which is reduced first as far as no part of a view needs its resolution. Directions that a cropped
    panorama does not show are black.

    Args:
        picture: The panorama's picture.
        panorama: Its area and pose.
        options: Directions and shape of the views.
        headings_deg: The directions to render; all of the options' by default.

    Yields:
        The views, in the order of the directions.
    """
    import torch
    from torch.nn import functional as F

    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    ratio = image.width / panorama.width / (2.0 * math.pi) / _focal_px(options)
    reduced_by = max(1, int(ratio * _finest(options)))
    source, samples = _padded(image.reduce(reduced_by), panorama), max(1, math.ceil(ratio / reduced_by - 0.01))
    planes = torch.from_numpy(source).permute(2, 0, 1)[None].float()  # keeps the channels last, which is fast
    rows_at_once = max(1, _SAMPLES_AT_ONCE // (options.width_px * samples * samples))
    for heading in options.directions_deg if headings_deg is None else headings_deg:
        view = np.empty((options.height_px, options.width_px, 3), dtype=np.uint8)
        for start in range(0, options.height_px, rows_at_once):
            rows = range(start, min(start + rows_at_once, options.height_px))
            size = source.shape[1], source.shape[0]
            grid, covered = _sampling_grid(panorama, options, heading, rows, samples, size)
            values = F.grid_sample(planes, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
            if not bool(covered.all()):
                values = values * covered
            if samples > 1:
                values = F.avg_pool2d(values, samples)
            view[rows.start : rows.stop] = values[0].round().to(torch.uint8).permute(1, 2, 0).numpy()
        yield view


def covered_share(panorama: Panorama, options: ViewOptions, heading_deg: float) -> float:
    """Share of a view's pixels that a cropped panorama shows, 0 to 1."""
    if panorama.width == 1.0 and panorama.height == 1.0:
        return 1.0
    step = math.ceil(max(options.width_px, options.height_px) / 64.0)
    coarse = replace(
        options, width_px=math.ceil(options.width_px / step), height_px=math.ceil(options.height_px / step)
    )
    _, covered = _sampling_grid(panorama, coarse, heading_deg, range(coarse.height_px), 1, (1 << 16, 1 << 16))
    return float(covered.float().mean())


def write_views(
    source: str | os.PathLike[str],
    panorama: Panorama,
    options: ViewOptions,
    targets: Mapping[float, Path],
    sha256: str,
    *,
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Write views of a panorama as JPEG files, each completely or not at all.

    A file states what it was made of and how in its comment; files that are already there are kept.

    Args:
        source: The panorama.
        panorama: Its area and pose.
        options: Shape of the views.
        targets: The file of each direction, degrees as in `ViewOptions.directions_deg`.
        sha256: SHA-256 of the panorama's file.
        max_pixels: Larger pictures are rejected.

    Returns:
        The number of files that were written.

    Raises:
        PhotographError: The panorama cannot be decoded.
        DiskFullError: The disk is full. Files that are complete are kept.
    """
    keys = {heading: _view_key(panorama, options, heading, sha256) for heading in targets}
    missing = [heading for heading, target in targets.items() if _comment(target) != keys[heading]]
    if not missing:
        return 0
    # A JPEG is decoded at a fraction of its size if the views need no more.
    finest_px = _focal_px(options) / _finest(options) * math.pi * min(panorama.height, 2.0 * panorama.width)
    picture = decode_photograph(source, size_px=math.ceil(finest_px), max_pixels=max_pixels)
    for heading, pixels in zip(missing, perspective_views(picture, panorama, options, missing), strict=True):
        with atomic_file(targets[heading]) as beside:
            Image.fromarray(pixels).save(beside, "JPEG", quality=_JPEG_QUALITY, comment=keys[heading])
    return len(missing)


def view_suffix(heading_deg: float, of_north: bool) -> str:
    """Return what a view's id and file name end with: _h090 of a compass heading, _c090 of an angle from the centre.

    Example:
        >>> view_suffix(90.0, True), view_suffix(22.5, False)
        ('_h090', '_c022.5')
    """
    return f"_{'h' if of_north else 'c'}{_name_of_angle(heading_deg)}"


def _name_of_angle(heading_deg: float) -> str:
    whole, _, fraction = f"{round(heading_deg % 360.0, 3) % 360.0:.3f}".partition(".")
    return whole.zfill(3) + (f".{fraction.rstrip('0')}" if fraction.strip("0") else "")


def _view_key(panorama: Panorama, options: ViewOptions, heading_deg: float, sha256: str) -> bytes:
    shape = {name: value for name, value in asdict(options).items() if name not in ("views", "headings_deg")}
    parts = [_VERSION, _JPEG_QUALITY, sha256, asdict(panorama), shape, heading_deg]
    return b"swclip view " + hashlib.sha256(json.dumps(parts).encode()).hexdigest().encode()


def _comment(path: Path) -> Any:
    with suppress(OSError, SyntaxError), Image.open(path, formats=("JPEG",)) as image:
        return image.info.get("comment")
    return None


def _focal_px(options: ViewOptions) -> float:
    return options.width_px / 2.0 / math.tan(math.radians(options.fov_deg) / 2.0)


def _finest(options: ViewOptions) -> float:
    """Resolution at the centre of a view as a share of that at its edge, where a pixel spans the smallest angle."""
    half = max(options.width_px, options.height_px) / 2.0 / _focal_px(options)
    return 1.0 / (1.0 + half * half)


def _padded(image: Image.Image, panorama: Panorama) -> UInt8[np.ndarray, "h+2 w+2 3"]:
    """The pixels with those beyond the edges: from the other edge at the seam, and from across the pole above."""
    pixels = np.asarray(image.convert("RGB"))
    round_sphere = panorama.width > 1.0 - 0.5 / pixels.shape[1]
    above, below = pixels[:1], pixels[-1:]
    if round_sphere:
        half = pixels.shape[1] // 2
        if panorama.top == 0.0:
            above = np.roll(above, half, axis=1)
        if panorama.top + panorama.height >= 1.0 - 1e-9:
            below = np.roll(below, half, axis=1)
    pixels = np.concatenate([above, pixels, below])
    first, last = pixels[:, :1], pixels[:, -1:]
    return np.concatenate([last, pixels, first] if round_sphere else [first, pixels, last], axis=1)


def _rotation(panorama: Panorama, options: ViewOptions, heading_deg: float) -> Float64[np.ndarray, "3 3"]:
    """The matrix from directions of the view (right, up, forward) to those of the camera of the panorama."""
    turn = math.radians(heading_deg - (panorama.heading_deg or 0.0))
    pitch = math.radians(panorama.pitch_deg) if options.level else 0.0
    roll = math.radians(panorama.roll_deg) if options.level else 0.0
    # The camera is turned to its heading, then raised, then rolled clockwise as seen from behind; undone in this order.
    rolled = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1.0]])
    return np.asarray(rolled @ _raised(-pitch) @ _turned(turn) @ _raised(math.radians(options.pitch_deg)))


def _raised(angle: float) -> Float64[np.ndarray, "3 3"]:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0, 0], [0, cos, sin], [0, -sin, cos]])


def _turned(angle: float) -> Float64[np.ndarray, "3 3"]:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, 0, sin], [0, 1.0, 0], [-sin, 0, cos]])


def _sampling_grid(
    panorama: Panorama, options: ViewOptions, heading_deg: float, rows: range, samples: int, padded_px: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Where each sample of a view is in the padded picture, and whether the picture shows its direction.

    Args:
        panorama: Area and pose.
        options: Shape of the view.
        heading_deg: Its direction.
        rows: Rows of the view.
        samples: Samples along each side of a pixel.
        padded_px: Width and height of the padded picture.

    Returns:
        (rows * samples, width * samples, 2) x and y from -1 to 1, and a mask of the first two dimensions.
    """
    import torch

    columns, lines = options.width_px * samples, options.height_px * samples
    focal = _focal_px(options) * samples
    right = ((torch.arange(columns) + (0.5 - columns / 2.0)) / focal)[None, :]
    up = (((lines / 2.0 - 0.5) - torch.arange(rows.start * samples, rows.stop * samples)) / focal)[:, None]
    x, y, z = (float(a) * right + float(b) * up + float(c) for a, b, c in _rotation(panorama, options, heading_deg))
    width, height = padded_px[0] - 2, padded_px[1] - 2
    # Shares of the picture's width and height, with half a pixel beyond its edges.
    edge = 0.5 / width
    across = torch.atan2(x, z) / (2.0 * math.pi) + (0.5 - panorama.left)
    across = torch.remainder(across + edge * panorama.width, 1.0) / panorama.width - edge
    down = (0.5 - torch.atan2(y, torch.hypot(x, z)) / math.pi - panorama.top) / panorama.height
    covered = (across <= 1.0 + edge) & (down >= -0.5 / height) & (down <= 1.0 + 0.5 / height)
    # The picture begins one pixel further in the padded one.
    shares = ((across * width + 1.0) / padded_px[0], (down * height + 1.0) / padded_px[1])
    return torch.stack([2.0 * share - 1.0 for share in shares], dim=-1), covered
