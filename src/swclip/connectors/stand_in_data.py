"""What a stand-in of a service has, and what goes wrong with it."""

from __future__ import annotations

import hashlib
import io
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from swclip.data.manifest import read_manifest
from swclip.geo.boxes import Box


@cache
def _small_picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (90, 120, 150)).save(stream, "JPEG")
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Record:
    """A photograph of the stand-in; `file` is None for a generated picture, pitch and roll are of a panorama."""

    name: str
    lat_deg: float
    lon_deg: float
    heading_deg: float | None
    captured_at: datetime | None
    accuracy_m: float | None
    sequence: str
    rank: int
    licence: str
    author: str
    file: Path | None
    panorama: bool = False
    pitch_deg: float | None = None
    roll_deg: float | None = None

    def picture(self) -> bytes:
        """Bytes of the picture; generated ones differ from each other."""
        if self.file is not None:
            return self.file.read_bytes()
        return _small_picture() + self.name.encode()  # decoders ignore what follows the end of a JPEG


_MARGIN_DEG = 0.001
"""How much wider than its photographs the border of a city is: about 100 m."""


class Photographs:
    """The photographs of a stand-in, found by box.

    Attributes:
        records: All of them.
        cities: The border of each city, by its name.
    """

    def __init__(self, records: Sequence[Record], cities: Mapping[str, Box] | None = None) -> None:
        self.records = list(records)
        self.cities = dict(cities or {})
        self._positions = np.array([(record.lat_deg, record.lon_deg) for record in records]).reshape(-1, 2)

    @classmethod
    def of_manifest(cls, path: str | Path, licence: str = "CC0-1.0", author: str = "swclip synth") -> Photographs:
        """Those of a manifest, in the order of its rows."""
        manifest = read_manifest(path)
        ranks: Counter[str] = Counter()
        records = []
        for row, file in zip(manifest.frame.to_dict("records"), manifest.image_paths, strict=True):
            sequence = _known(row["sequence_id"]) or _known(row["place_id"]) or "alone"
            ranks[sequence] += 1
            taken = _known(row["captured_at"])
            records.append(
                Record(
                    name=row["image_id"],
                    lat_deg=row["lat_deg"],
                    lon_deg=row["lon_deg"],
                    heading_deg=_known(row["heading_deg"]),
                    captured_at=None if taken is None else taken.to_pydatetime(),
                    accuracy_m=_known(row["accuracy_m"]),
                    sequence=sequence,
                    rank=ranks[sequence],
                    licence=_known(row["licence"]) or licence,
                    author=_known(row.get("author")) or author,
                    file=file,
                    panorama=row.get("camera") == "equirectangular",
                )
            )
        known = manifest.frame[manifest.frame["city"].notna()]
        ends = known.groupby("city")[["lat_deg", "lon_deg"]].agg(["min", "max"])
        cities = {
            str(city): Box(south - _MARGIN_DEG, west - _MARGIN_DEG, north + _MARGIN_DEG, east + _MARGIN_DEG)
            for city, south, north, west, east in ends.itertuples(name=None)
        }
        return cls(records, cities)

    @classmethod
    def generated(cls, count: int, box: Box, seed: int = 0) -> Photographs:
        """Photographs at random positions of a box, without files."""
        rng = np.random.default_rng(seed)
        lat, lon = rng.uniform(box.south, box.north, count), rng.uniform(box.west, box.east, count)
        days = rng.integers(0, 2_000, count)
        records = [
            Record(
                name=f"generated-{n}",
                lat_deg=float(lat[n]),
                lon_deg=float(lon[n]),
                heading_deg=float(n * 47 % 360),
                captured_at=datetime.fromordinal(737_000 + int(days[n])),
                accuracy_m=3.0,
                sequence=f"drive-{n // 100}",
                rank=n % 100 + 1,
                licence=("CC-BY-SA-4.0", "etalab-2.0")[n // 100 % 2],
                author=f"driver {n // 100 % 7}",
                file=None,
            )
            for n in range(count)
        ]
        return cls(records)

    def within(self, box: Box) -> list[Record]:
        """Those inside a box or on its border, the nearest to its centre first."""
        lat, lon = self._positions.T
        inside = np.flatnonzero((lat >= box.south) & (lat <= box.north) & (lon >= box.west) & (lon <= box.east))
        centre = box.centre_deg
        away = np.hypot(lat[inside] - centre[0], (lon[inside] - centre[1]) * np.cos(np.radians(centre[0])))
        return [self.records[n] for n in inside[np.argsort(away, kind="stable")]]

    def places(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        """What Nominatim answers for the name (`q`) or the id (`osm_ids`) of a city: R1 is the first city."""
        name, key = params.get("q", "").strip().casefold(), params.get("osm_ids")
        results = []
        for number, (city, (south, west, north, east)) in enumerate(self.cities.items(), 1):
            if name != city.casefold() and key != f"R{number}":
                continue
            ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
            results.append(
                {
                    "osm_type": "relation",
                    "osm_id": number,
                    "addresstype": "city",
                    "name": city,
                    "display_name": city,
                    "lat": f"{(south + north) / 2.0:.7f}",
                    "lon": f"{(west + east) / 2.0:.7f}",
                    "geojson": {"type": "Polygon", "coordinates": [ring]},
                }
            )
        return results

    @cached_property
    def by_name(self) -> dict[str, Record]:
        """The photographs by name."""
        return {record.name: record for record in self.records}


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Shares are of requests or photographs; a request fails `times` times before it succeeds.

    Attributes:
        reset: Share of answers that end in mid-body.
        busy: Share of requests that get 429 with `Retry-After: 0`.
        error: Share of requests that get 503.
        html: Share of JSON answers that are a web page.
        truncated: Share of JSON answers that are cut short although their length is right.
        empty: Share of pages that are empty although more is stated.
        times: How often these happen to one request.
        vanished: Share of photographs whose picture no longer exists.
        defective: Share of photographs whose file is cut short on the server.
        absent: Share of records without the fields that may be absent.
        duplicates: Share of records that an answer has twice.
        shuffled: Answers change their order from request to request.
        latency_s: Seconds before each answer.
        burst: After this many requests, as many again get 429 with `Retry-After: 1`; 0 for none.
        expires_after: The token is refused after this many requests; 0 for never.
        forbidden: Every request gets 403.
    """

    reset: float = 0.0
    busy: float = 0.0
    error: float = 0.0
    html: float = 0.0
    truncated: float = 0.0
    empty: float = 0.0
    times: int = 1
    vanished: float = 0.0
    defective: float = 0.0
    absent: float = 0.0
    duplicates: float = 0.0
    shuffled: bool = False
    latency_s: float = 0.0
    burst: int = 0
    expires_after: int = 0
    forbidden: bool = False

    def hits(self, share: float, *key: object) -> bool:
        """Whether a fault of this share happens to what the key names; always the same."""
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
        return bool(struct.unpack("<Q", digest)[0] / 2**64 < share)


MANY_FAULTS = Faults(
    reset=0.05, busy=0.05, error=0.05, html=0.05, truncated=0.05, empty=0.05, vanished=0.02, defective=0.02, absent=0.1,
    duplicates=0.1, shuffled=True,
)  # fmt: skip
"""A bad day of a service."""


def _known(value: Any) -> Any:
    """A value of a table, None where there is none."""
    return None if value is None or pd.isna(value) else value
