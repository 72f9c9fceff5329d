"""Areas by box, circle, file and name; the names are resolved by a server of Nominatim's form on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import shapely

from swclip.cli.options import AreaOptions
from swclip.connectors.area import requested_area
from swclip.errors import ConfigError, InputError, ServiceError, SwclipError

CREDIT = "Data © OpenStreetMap contributors, ODbL 1.0. http://osm.org/copyright"


def place(name: str, osm_id: int, geometry: Any, kind: str = "city") -> dict[str, Any]:
    """A result in the form jsonv2."""
    at = shapely.from_geojson(json.dumps(geometry)).representative_point()
    return {
        "place_id": osm_id + 1000,
        "licence": CREDIT,
        "osm_type": "relation" if geometry["type"] != "Point" else "node",
        "osm_id": osm_id,
        "lat": f"{at.y:.7f}",
        "lon": f"{at.x:.7f}",
        "category": "boundary",
        "type": "administrative",
        "place_rank": 16,
        "importance": 0.6,
        "addresstype": kind,
        "name": name.partition(",")[0],
        "display_name": name,
        "boundingbox": ["53.6", "53.9", "-1.8", "-1.3"],
        "geojson": geometry,
    }


def square(lon: float, lat: float, side: float) -> Any:
    return json.loads(shapely.to_geojson(shapely.box(lon, lat, lon + side, lat + side)))


LEEDS = place("Leeds, West Yorkshire, England, United Kingdom", 118362, square(-1.8, 53.7, 0.2))
KENT = place("Leeds, Maidstone, Kent, England, United Kingdom", 1255, square(0.6, 51.2, 0.02), "village")
SQUARE_IN_LEEDS = place("City Square, Leeds, England", 77, {"type": "Point", "coordinates": [-1.547, 53.796]}, "square")
PLACES = {"leeds": [LEEDS, KENT], "leeds, west yorkshire": [LEEDS, SQUARE_IN_LEEDS], "city square": [SQUARE_IN_LEEDS]}


@dataclass
class Geocoder:
    """What the server answers, and what it was asked."""

    url: str = ""
    fault: tuple[int, dict[str, str], bytes] | None = None
    requests: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    def answer(self, path: str, query: dict[str, str], agent: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append((path, query, agent))
        if self.fault is not None:
            return self.fault
        if path == "/lookup":
            results = [p for p in (LEEDS, KENT) if f"{p['osm_type'][0].upper()}{p['osm_id']}" == query["osm_ids"]]
        else:
            results = PLACES.get(query["q"].lower(), [])
        return 200, {"Content-Type": "application/json"}, json.dumps(results).encode()


@pytest.fixture
def geocoder() -> Iterator[Geocoder]:
    state = Geocoder()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            status, headers, body = state.answer(url.path, query, self.headers["User-Agent"])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def test_box_circle_and_file(tmp_path: Path) -> None:
    box = AreaOptions(bbox="-1.56,53.79,-1.53,53.81").read()
    assert box.request == {"bbox": [-1.56, 53.79, -1.53, 53.81]}
    assert box.area.boxes_deg[0].bbox == (-1.56, 53.79, -1.53, 53.81)

    circle = AreaOptions(near="53.8N 1.55W", radius_m=500.0).read()
    assert circle.request == {"near": [53.8, -1.55], "radius_m": 500.0}
    assert circle.area.contains(np.array([[53.8044, -1.55], [53.8046, -1.55]])).tolist() == [True, False]

    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(square(-1.6, 53.7, 0.1)))
    file = AreaOptions(area=str(path)).read()
    assert file.request == {"file": str(path)}
    assert file.area.area_km2 == pytest.approx(73.1, abs=0.1)


def test_name_is_resolved_by_one_request_that_says_who_asks(geocoder: Geocoder) -> None:
    result = requested_area("Leeds, West Yorkshire", geocoder=geocoder.url + "/search")  # the point there is no area
    assert result.request == {
        "place": "Leeds, West Yorkshire",
        "geocoder": geocoder.url,
        "osm_id": "R118362",
        "name": LEEDS["display_name"],
        "attribution": CREDIT,
    }
    assert result.city == "Leeds"
    assert result.area.boxes_deg[0].bbox == pytest.approx((-1.8, 53.7, -1.6, 53.9))
    ((path, query, agent),) = geocoder.requests
    assert (path, query["format"], query["polygon_geojson"]) == ("/search", "jsonv2", "1")
    assert agent.startswith("swclip/")


def test_ambiguous_name_lists_ids_and_an_id_is_accepted(geocoder: Geocoder) -> None:
    with pytest.raises(InputError, match="'Leeds' is the name of 2 places") as raised:
        requested_area("Leeds", geocoder=geocoder.url)
    assert "--area R118362  Leeds, West Yorkshire, England, United Kingdom (city, 292.1 km²)" in str(raised.value)
    assert "--area R1255  Leeds, Maidstone" in str(raised.value)
    assert requested_area("r1255", geocoder=geocoder.url).request["name"] == KENT["display_name"]
    assert requested_area("r1255", geocoder=geocoder.url).city == "Leeds"


def test_unknown_names_and_points(geocoder: Geocoder) -> None:
    with pytest.raises(InputError, match="knows no place 'Atlantis'"):
        requested_area("Atlantis", geocoder=geocoder.url)
    with pytest.raises(InputError, match=r"is a point or a line.*--near=53.7960000,-1.5470000 --radius-m METRES"):
        requested_area("City Square", geocoder=geocoder.url)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((403, {}, b"Access blocked"), "answered 403 Forbidden; it does not admit this client"),
        ((429, {"Retry-After": "60"}, b""), "answered 429 Too Many Requests; too many requests, retry after 60 s"),
        ((500, {}, b"<html>"), "answered 500 Internal Server Error"),
        ((200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), "is not Nominatim's list of places"),
        ((200, {}, b'{"error": "unknown"}'), "is not Nominatim's list of places"),
        ((200, {}, b'[{"place_id": 1'), "is not Nominatim's list of places"),
        ((200, {}, json.dumps([LEEDS | {"geojson": {"type": "Polygon", "coordinates": [7]}}]).encode()), "cannot be"),
    ],
)
def test_refusal_of_a_geocoder_is_no_absence(geocoder: Geocoder, fault: Any, words: str) -> None:
    geocoder.fault = fault
    with pytest.raises(ServiceError, match=words):
        requested_area("Leeds, West Yorkshire", geocoder=geocoder.url)
    assert len(geocoder.requests) == 1


def test_unreachable_geocoder() -> None:
    with pytest.raises(ServiceError, match="cannot be reached"):
        requested_area("Leeds", geocoder="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (AreaOptions(), "an area is needed"),
        (AreaOptions(bbox="0,50,1,51", near="50,0", radius_m=1.0), "an area is needed, in one of"),
        (AreaOptions(near="50,0"), "must be used together"),
        (AreaOptions(near="114.3,30.5", radius_m=10.0), "look swapped"),
        (AreaOptions(area="Leeds"), "add --geocoder URL"),
        (AreaOptions(area="leeds.geojson"), "there is no such file"),
        (AreaOptions(area="53.8,-1.55,500"), "for a circle --near"),
        (AreaOptions(area="Leeds", geocoder="nominatim.openstreetmap.org"), "starts with http"),
    ],
)
def test_options_that_are_no_area(options: AreaOptions, words: str) -> None:
    with pytest.raises(SwclipError, match=words) as raised:
        options.read()
    assert isinstance(raised.value, (ConfigError, InputError))
