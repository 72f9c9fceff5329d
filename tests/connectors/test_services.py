"""Mapillary and KartaView against stand-ins of them: what is special about each, and its known faults."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swclip.connectors import kartaview, mapillary
from swclip.connectors.area import requested_area
from swclip.connectors.client import Client
from swclip.connectors.fetch import FetchResult, Politeness, fetch
from swclip.connectors.kartaview import KartaView
from swclip.connectors.mapillary import Mapillary
from swclip.connectors.refusal import Refusal
from swclip.connectors.service import BoxFullError, Item, Query
from swclip.connectors.stand_in import StandIn
from swclip.connectors.stand_in_data import MANY_FAULTS, Faults, Photographs
from swclip.connectors.stand_in_shapes import KartaViewShape, MapillaryShape
from swclip.data.manifest import read_manifest
from swclip.errors import ConfigError, ServiceError
from swclip.geo.boxes import Box
from swclip.geo.distance import geodesic_m

LEEDS = Box(53.79, -1.56, 53.81, -1.53)
BBOX = "-1.56,53.79,-1.53,53.81"
QUICK = Politeness(connections=4, per_second=0.0, attempts=4, backoff_s=0.001, timeout_s=10.0)
COUNT = 80
TOKEN = "MLY|4711|c0ffee-s3cret"
SERVICES = ("mapillary", "kartaview")


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    return Photographs.generated(COUNT, LEEDS)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token, and answers that are full early, so that boxes are split; the day of the request does not change."""
    monkeypatch.setenv("MAPILLARY_TOKEN", TOKEN)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(mapillary, "FEW", 15)
    monkeypatch.setattr(MapillaryShape, "SAMPLED", 30)
    monkeypatch.setattr(kartaview, "PAGE", 8)
    monkeypatch.setattr(KartaViewShape, "DENSE", 40)


def serving(service: str, photographs: Photographs, faults: Faults | None = None, **more: Any) -> StandIn:
    return StandIn(photographs, service, faults, token=TOKEN if service == "mapillary" else None, **more)


def fetched(server: StandIn, service: str, out: Path, **options: Any) -> FetchResult:
    return fetch(service, requested_area(bbox=BBOX), out, endpoint=server.address, politeness=QUICK, **options)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a data set but the state of the download."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "sqlite" not in path.name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("service", SERVICES)
def test_a_download_has_every_photograph_with_both_positions(
    photographs: Photographs, tmp_path: Path, service: str
) -> None:
    with serving(service, photographs) as server:
        result = fetched(server, service, tmp_path / "recorded")
        assert max(server.pictures.values()) == 1
        assert not server.leaked
        fetched(server, service, tmp_path / "computed", positions="computed")
    assert result.missing == result.left_out == result.retried == {}
    frame = read_manifest(tmp_path / "recorded").frame
    expected = np.array([(record.lat_deg, record.lon_deg) for record in photographs.records])
    recorded = frame[["lat_deg", "lon_deg"]].to_numpy()
    assert len(frame) == COUNT
    assert np.abs(recorded[np.lexsort(recorded.T)] - expected[np.lexsort(expected.T)]).max() < 1e-8
    assert set(frame["licence"]) == {"CC-BY-SA-4.0"}
    assert set(frame["author"]) == {record.author for record in photographs.records}
    assert frame["source_url"].str.startswith("https://").all()
    assert frame["captured_at"].notna().all()
    assert set(frame["camera"]) == {"perspective"}
    assert frame["sequence_id"].nunique() == 1
    other = read_manifest(tmp_path / "computed").frame
    has_computed = other["computed_lat_deg"].notna().to_numpy()
    assert has_computed.sum() > 0
    moved_m = geodesic_m(recorded, other[["lat_deg", "lon_deg"]].to_numpy())
    assert ((moved_m > 0.5) == has_computed).all()
    np.testing.assert_array_equal(other["recorded_lat_deg"], frame["lat_deg"])


@pytest.mark.parametrize("service", SERVICES)
def test_a_bad_day_of_the_service_ends_as_a_good_one(photographs: Photographs, tmp_path: Path, service: str) -> None:
    lasting = Faults(vanished=0.05, defective=0.05, absent=0.3)
    with serving(service, photographs, lasting) as server:
        good = fetched(server, service, tmp_path / "good")
        ports = server.ports
    bad_day = replace(MANY_FAULTS, vanished=0.05, defective=0.05, absent=0.3, busy=0.15, reset=0.15, html=0.2)
    with serving(service, photographs, bad_day, ports=ports) as server:
        bad = fetched(server, service, tmp_path / "bad")
    assert {"busy", "truncated", "not-json"} <= set(bad.retried)
    assert good.left_out == bad.left_out != {}
    assert content(tmp_path / "bad") == content(tmp_path / "good")


def test_a_part_of_the_photographs_is_no_complete_answer(photographs: Photographs) -> None:
    with serving("mapillary", photographs) as server, Client(server.address, authorization=f"OAuth {TOKEN}") as client:
        with pytest.raises(BoxFullError):
            Mapillary(client, server.address, "2048").search(LEEDS, Query())
        assert server.total == 1


def test_boxes_that_the_service_refuses_as_too_small_are_made_larger(photographs: Photographs) -> None:
    record = photographs.records[0]
    tiny = Box(record.lat_deg - 1e-5, record.lon_deg - 1e-5, record.lat_deg + 1e-5, record.lon_deg + 1e-5)
    with serving("mapillary", photographs) as server, Client(server.address, authorization=f"OAuth {TOKEN}") as client:
        items = Mapillary(client, server.address, "2048").search(tiny, Query()).items
    assert any((item.lat_deg, item.lon_deg) == (record.lat_deg, record.lon_deg) for item in items)


def test_a_full_answer_of_a_small_box_is_asked_for_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapillary, "LIMIT", 30)
    dense = Box(53.80000, -1.55000, 53.80020, -1.54970)
    photographs = Photographs.generated(200, dense)
    with serving("mapillary", photographs) as server, Client(server.address, authorization=f"OAuth {TOKEN}") as client:
        items = Mapillary(client, server.address, "2048").search(dense, Query()).items
    assert len({item.id for item in items}) == 200


def test_addresses_that_expire_are_asked_for_again(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MapillaryShape, "VALID", 25)  # requests; a batch has 50 addresses
    with serving("mapillary", photographs) as server:
        result = fetched(server, "mapillary", tmp_path / "out")
        assert server.requests["/images"] > COUNT / 4
    assert result.missing == {}
    assert result.manifest is not None
    assert len(result.manifest) == COUNT
    assert b"oe=" not in b"".join(content(tmp_path / "out").values())


def test_photographs_that_are_deleted_meanwhile_have_no_address() -> None:
    class Deleted(Mapillary):
        """The whole batch is refused with 400 because of one id, as graph services do."""

    class Answers:
        def json(self, url: str, params: Any, parse: Any) -> Any:
            ids = params["image_ids"].split(",")
            if "2" in ids:
                raise Refusal("bad-request", url, "HTTP 400: Object with ID '2' does not exist.", status=400)
            return parse({"data": [{"id": key, "thumb_2048_url": f"https://p/{key}"} for key in ids]}, url)

    service = Deleted(Answers(), "https://graph", "2048")  # type: ignore[arg-type]
    assert service.addresses(["1", "2", "3"]) == {"1": "https://p/1", "3": "https://p/3"}


def test_a_token_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAPILLARY_TOKEN")
    with pytest.raises(ConfigError, match="set the environment variable MAPILLARY_TOKEN"):
        fetch("mapillary", requested_area(bbox=BBOX), tmp_path / "out")


def test_an_expired_token_stops_with_one_sentence_and_loses_nothing(
    photographs: Photographs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving("mapillary", photographs) as server:
        whole = fetched(server, "mapillary", tmp_path / "whole")
        total, ports = server.total, server.ports
    assert whole.manifest is not None
    with serving("mapillary", photographs, Faults(expires_after=total // 2), ports=ports) as server:
        with pytest.raises(ServiceError) as raised:
            fetched(server, "mapillary", tmp_path / "out")
        before = dict(server.pictures)
    message = str(raised.value)
    assert "401" in message
    assert "The token in $MAPILLARY_TOKEN is refused: set a valid one and run the same command again" in message
    with serving("mapillary", photographs, ports=ports) as server:
        fetched(server, "mapillary", tmp_path / "out")
        assert not before.keys() & server.pictures.keys(), "nothing is fetched twice"
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    everything = [
        message,
        caplog.text,
        *(path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()),
    ]
    assert not any(TOKEN in text or "s3cret" in text for text in everything)


def test_the_token_is_in_no_process_list_and_no_output(tmp_path: Path) -> None:
    with serving("mapillary", Photographs.generated(8, LEEDS), Faults(latency_s=0.05)) as server:
        command = [sys.executable, "-m", "swclip", "--verbose", "fetch", "mapillary", "--endpoint", server.address]
        command += [f"--bbox={BBOX}", "--out", str(tmp_path / "out"), "--per-second", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            lines, listed = [], ""
            for line in process.stdout:
                lines.append(line)
                if not listed:
                    listed = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert process.returncode == 0, "".join(lines)
    assert "mapillary" in listed
    assert not any("s3cret" in text for text in (listed, *lines))
    assert len(read_manifest(tmp_path / "out")) == 8


def test_dense_circles_are_made_smaller_and_pages_are_read_to_the_end(photographs: Photographs, tmp_path: Path) -> None:
    with serving("kartaview", photographs) as server, Client(server.address, attempts=2, backoff_s=0.001) as client:
        service = KartaView(client, server.address, "proc")
        with pytest.raises(Refusal) as raised:
            service.search(LEEDS, Query())
        assert raised.value.kind == "timeout"  # which `search_area` answers with the quarters
        quarter = LEEDS.quarters()[0]
        items = service.search(quarter, Query()).items
        assert server.requests["/2.0/photo/"] > 3
    assert 8 < len(items) <= 40
    centre = quarter.centre_deg
    for item in items:
        assert geodesic_m([centre], [(item.lat_deg, item.lon_deg)])[0] <= quarter.radius_m * 1.005 + 2.0


def test_many_pages_are_a_full_box(photographs: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kartaview, "MAX_PAGES", 2)
    with serving("kartaview", photographs) as server, Client(server.address) as client, pytest.raises(BoxFullError):
        KartaView(client, server.address, "proc").search(LEEDS.quarters()[0], Query())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({}, "schema"),
        ([], "schema"),
        ({"result": {"photos": []}}, "schema"),
        ({"status": {"httpCode": 408, "apiMessage": "Query timeout"}, "result": None}, "timeout"),
        ({"status": {"httpCode": "500"}}, "server-error"),
        ({"status": {"httpCode": 429}}, "busy"),
        ({"status": {"httpCode": 200}, "result": {"data": [], "hasMoreData": True}}, "empty-page"),
    ],
)
def test_kartaviews_refusals_within_answers_are_told_apart(answer: Any, kind: str) -> None:
    with pytest.raises(Refusal) as raised:
        kartaview._page(answer, "here")
    assert raised.value.kind == kind
    assert kartaview._page({"status": {"apiCode": 601, "httpCode": 200}}, "here") == ([], False)


ODD: list[Any] = [
    None, 7, "text", [], {}, {"id": None}, {"id": "1"}, {"id": "1", "geometry": {"coordinates": ["a", 1]}},
    {"id": "1", "geometry": {"coordinates": [0, 0]}, "lat": "0", "lng": "0"}, {"id": True, "lat": "95", "lng": "1"},
]  # fmt: skip


@pytest.mark.parametrize("kind", [Mapillary, KartaView])
def test_records_that_are_no_photographs_are_unusable_or_a_changed_interface(kind: Any) -> None:
    class Answers:
        def json(self, url: str, params: Any, parse: Any) -> Any:
            return parse(json.loads(json.dumps(answer)), url)

    service = kind(Answers(), "https://here", kind.size_default)
    good = {
        "id": "5",
        "lat": "53.8",
        "lng": "-1.55",
        "fileurlProc": "https://p",
        "geometry": {"coordinates": [-1.55, 53.8]},
    }
    answer: Any = {"data": [*ODD, good], "result": {"data": [*ODD, good]}}
    result = service.search(LEEDS, Query())
    assert ([item.id for item in result.items], len(result.unusable)) == (["5"], len(ODD))
    assert isinstance(result.items[0], Item)
    answer = {"data": ODD, "result": {"data": ODD}}
    with pytest.raises(Refusal, match="interface changed"):
        service.search(LEEDS, Query())
