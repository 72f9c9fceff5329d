"""`swclip fetch` against the stand-in: the data set of an area, whatever the service does and whenever it is killed."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from dataclasses import replace
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import swclip
from swclip.cli.app import run
from swclip.connectors import panoramax
from swclip.connectors.area import requested_area
from swclip.connectors.fetch import FetchResult, Politeness, fetch
from swclip.connectors.service import Query
from swclip.connectors.stand_in import StandIn
from swclip.connectors.stand_in_data import MANY_FAULTS, Faults, Photographs
from swclip.connectors.thinning import Thinning
from swclip.data.manifest import read_manifest
from swclip.errors import ConfigError, InputError, ServiceError
from swclip.geo.boxes import Box
from swclip.imaging.decode import open_photograph

LEEDS = Box(53.79, -1.56, 53.81, -1.53)
BBOX = "-1.56,53.79,-1.53,53.81"
QUICK = Politeness(connections=4, per_second=0.0, attempts=4, backoff_s=0.001, timeout_s=10.0)
COUNT = 150
WIDE = requested_area(bbox="-1.7,53.73,-1.4,53.85")
FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    return Photographs.generated(COUNT, LEEDS)


@pytest.fixture(autouse=True)
def full_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are full at 40 photographs, so that they are split; the day of the request does not change."""
    monkeypatch.setattr(panoramax, "LIMIT", 40)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def fetched(server: StandIn, out: Path, **options: Any) -> FetchResult:
    area = requested_area(bbox=options.pop("bbox", BBOX))
    return fetch("panoramax", area, out, **{"endpoint": server.address, "politeness": QUICK, **options})


def content(folder: Path) -> dict[str, bytes]:
    """All files of a data set but the state of the download."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "sqlite" not in path.name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_a_download_leaves(photographs: Photographs, tmp_path: Path) -> None:
    with StandIn(photographs) as server:
        result = fetched(server, tmp_path / "out", city="Leeds")
        assert max(server.pictures.values()) == 1
        assert not server.leaked
    assert result.missing == result.left_out == {}
    manifest = read_manifest(tmp_path / "out")
    assert len(manifest) == COUNT == len(server.pictures)
    record = {(round(r.lat_deg, 9), round(r.lon_deg, 9)): r for r in photographs.records}
    for row, path in zip(manifest.frame.to_dict("records"), manifest.image_paths, strict=True):
        expected = record[round(row["lat_deg"], 9), round(row["lon_deg"], 9)]
        assert path.read_bytes() == expected.picture()
        assert row["heading_deg"] == expected.heading_deg
        assert row["captured_at"] == expected.captured_at
        assert (row["licence"], row["author"], row["city"]) == (expected.licence, expected.author, "Leeds")
        assert row["image_id"] in row["source_url"]
        with open_photograph(path):
            pass
    assert manifest.frame["sequence_id"].nunique() == 2
    document = json.loads((tmp_path / "out/fetch.json").read_text())
    assert document["complete"]
    assert document["photographs"] == COUNT
    assert sum(document["licences"].values()) == sum(document["years"].values()) == COUNT
    assert document["request"]["area"] == {"bbox": [-1.56, 53.79, -1.53, 53.81]}


def test_the_python_name_fetches_a_city_by_its_name(tmp_path: Path) -> None:
    records = Photographs.generated(60, Box(53.79, -1.56, 53.81, -1.53)).records
    with StandIn(Photographs(records, {"Leeds": Box(53.79, -1.56, 53.80, -1.53), "York": LEEDS})) as server:
        options: dict[str, Any] = {"geocoder": server.address, "endpoint": server.address, "politeness": QUICK}
        result = swclip.fetch(tmp_path / "out", area="leeds", since="2020-01-01", every_m=150.0, **options)
        with pytest.raises(InputError, match="knows no place 'Atlantis'"):
            swclip.fetch(tmp_path / "other", area="Atlantis", **options)
        by_id = swclip.fetch(tmp_path / "york", bbox=None, area="R2", dry_run=True, **options)
    since = datetime.fromisoformat("2020-01-01")
    south = [record for record in records if record.lat_deg <= 53.80]
    late = [record for record in south if record.captured_at is not None and record.captured_at >= since]
    assert 0 < len(late) < len(south) < len(records)
    assert (result.plan.found, sum(result.plan.filtered.values())) == (len(late), 0)
    assert result.manifest is not None
    assert len(result.manifest) == result.photographs <= len(late)
    assert set(result.manifest.frame["city"]) == {"Leeds"}
    assert by_id.plan.found == len(records)


def test_a_place_with_more_photographs_than_an_answer_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Photographs.generated(100, LEEDS).records
    dense = [replace(record, lat_deg=53.80131, lon_deg=-1.54713) for record in records[:90]] + records[90:]
    with StandIn(Photographs(dense)) as server:
        assert fetched(server, tmp_path / "all").photographs == 100
        monkeypatch.setattr(panoramax, "MOST", 60)
        with pytest.raises(ServiceError, match=r"1 x full\. The first: .* than the 60 that it names"):
            fetched(server, tmp_path / "out")
        result = fetched(server, tmp_path / "out", partial=True)
    assert (result.photographs, result.missing) == (70, {"box: full": 1})
    assert "than the 60 that it names" in (tmp_path / "out/rejected.csv").read_text()


def test_a_polygon_takes_no_photograph_outside_it(photographs: Photographs, tmp_path: Path) -> None:
    ring = [[-1.56, 53.79], [-1.53, 53.79], [-1.53, 53.81], [-1.56, 53.79]]
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    area = requested_area(str(tmp_path / "area.geojson"))
    with StandIn(photographs) as server:
        result = fetch("panoramax", area, tmp_path / "out", endpoint=server.address, politeness=QUICK)
    assert result.manifest is not None
    inside = sum(r.lat_deg - 53.79 <= (r.lon_deg + 1.56) * 0.02 / 0.03 for r in photographs.records)
    assert len(result.manifest) == inside < COUNT
    assert area.area.contains(result.manifest.positions_deg).all()


def test_a_dry_run_plans_and_the_download_does_not_search_again(photographs: Photographs, tmp_path: Path) -> None:
    with StandIn(photographs) as server:
        plan = fetched(server, tmp_path / "out", dry_run=True).plan
        assert not server.pictures
        assert not (tmp_path / "out/manifest.parquet").exists()
        searches = server.requests["/api/search"]
        assert searches > COUNT / 40
        plans = []
        result = fetched(server, tmp_path / "out", show_plan=plans.append)
        assert plans == [plan]
        assert server.requests["/api/search"] == searches
    assert result.manifest is not None
    size = sum(path.stat().st_size for path in result.manifest.image_paths)
    assert plan.bytes_to_download == pytest.approx(size, rel=0.02)
    assert plan.sequences == 2
    assert plan.licences == {"CC-BY-SA-4.0": 100, "etalab-2.0": 50}


def test_filters_and_thinning_come_before_the_download(photographs: Photographs, tmp_path: Path) -> None:
    since, until = pd.Timestamp("2019-01-01", tz="UTC"), pd.Timestamp("2022-01-01", tz="UTC")
    query = Query(since.to_pydatetime(), until.to_pydatetime(), panoramas=False)
    with StandIn(photographs) as server:
        result = fetched(server, tmp_path / "out", query=query, thinning=Thinning(every_m=300.0, sectors=1))
        assert len(server.pictures) == result.plan.photographs
    assert result.manifest is not None
    times = result.manifest.frame["captured_at"].dt.tz_localize("UTC")
    assert ((times >= since) & (times < until)).all()
    dated = sum(since <= pd.Timestamp(r.captured_at, tz="UTC") < until for r in photographs.records if r.captured_at)
    assert result.plan.photographs + result.plan.thinned == dated
    assert 0 < result.plan.photographs < dated


def test_a_bad_day_of_the_service_ends_as_a_good_one(photographs: Photographs, tmp_path: Path) -> None:
    lasting = Faults(vanished=0.05, defective=0.05, absent=0.2)
    with StandIn(photographs, faults=lasting) as server:
        good = fetched(server, tmp_path / "good")
        ports = server.ports
    bad_day = replace(MANY_FAULTS, vanished=0.05, defective=0.05, absent=0.2, busy=0.2, reset=0.2, empty=0.3, html=0.3)
    with StandIn(photographs, faults=bad_day, ports=ports) as server:
        bad = fetched(server, tmp_path / "bad")
    assert good.retried == {}
    assert {"busy", "server-error", "truncated", "not-json", "empty-page"} <= set(bad.retried)
    assert good.left_out == bad.left_out
    assert set(good.left_out) == {"gone", "truncated"}
    assert content(tmp_path / "good") == content(tmp_path / "bad")
    rejected = pd.read_csv(tmp_path / "bad/rejected.csv")
    assert sorted(rejected["reason"]) == sorted(k for k, n in bad.left_out.items() for _ in range(n))


def begin(server: StandIn, out: Path, held: int) -> ForkServerProcess:
    """Start a download of the wide area as a process of its own."""
    polite = replace(QUICK, connections=held)
    process = FORKS.Process(
        target=fetch, args=("panoramax", WIDE, out), kwargs={"endpoint": server.address, "politeness": polite}
    )
    process.start()
    return process


@pytest.mark.slow
def test_killed_twenty_times_the_end_is_the_same(tmp_path: Path) -> None:
    faults = Faults(reset=0.05, busy=0.05, vanished=0.02, defective=0.02, absent=0.1, duplicates=0.1, shuffled=True)
    chance, held = random.Random(4), 4
    many = Photographs.generated(COUNT, WIDE.area.boxes_deg[0])
    with StandIn(many, faults=faults) as server:
        ports = server.ports
        for kill in range(20):
            process = begin(server, tmp_path / "killed", held)
            until = server.total + chance.randint(1, 15)
            while server.total < until and process.is_alive():
                time.sleep(0.005)
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL, f"it ended before kill {kill}"
        last = begin(server, tmp_path / "killed", held)
        last.join()
        assert last.exitcode == 0
        once = sum(count == 1 for count in server.pictures.values())
        assert once >= len(server.pictures) - held * 20  # only what was on its way is fetched again
    with StandIn(many, faults=faults, ports=ports) as server:
        undisturbed = begin(server, tmp_path / "undisturbed", held)
        undisturbed.join()
        assert undisturbed.exitcode == 0
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")
    assert len(read_manifest(tmp_path / "killed")) > 0.9 * COUNT


def test_a_folder_in_which_nothing_was_found_takes_another_request(photographs: Photographs, tmp_path: Path) -> None:
    with StandIn(Photographs(photographs.records[:0])) as server, pytest.raises(InputError, match="has no photograph"):
        fetched(server, tmp_path / "out")
    with StandIn(photographs) as server:
        assert fetched(server, tmp_path / "out", bbox="-1.56,53.79,-1.54,53.81").photographs > 0
        with pytest.raises(ConfigError, match="begun with another area"):
            fetched(server, tmp_path / "out")


def test_a_complete_data_set_is_not_fetched_again_and_an_update_adds_what_is_new(tmp_path: Path) -> None:
    early, late = Photographs.generated(60, LEEDS), Photographs.generated(90, LEEDS)
    moved = Photographs([*early.records[5:], *(replace(r, sequence="new") for r in late.records[60:])])
    with StandIn(early) as server:
        fetched(server, tmp_path / "out")
        requests = server.total
        before = content(tmp_path / "out")
        fetched(server, tmp_path / "out")
        assert server.total == requests
        assert content(tmp_path / "out") == before
        ports = server.ports
    with StandIn(moved, ports=ports) as server:
        result = fetched(server, tmp_path / "out", update=True)
        assert len(server.pictures) == 30  # the new ones alone
    assert result.manifest is not None
    assert len(result.manifest) == 90  # also those that the service has no more
    document = json.loads((tmp_path / "out/fetch.json").read_text())
    assert document["withdrawn_since"] == 5
    with StandIn(moved, ports=ports) as server, pytest.raises(ConfigError, match="begun with another size"):
        fetched(server, tmp_path / "out", size="hd")


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (Faults(forbidden=True), "forbidden"),
        (Faults(error=1.0, times=99), "server-error"),
        (Faults(busy=1.0, times=99), "busy"),
        (Faults(html=1.0, times=99), "not-json"),
        (Faults(truncated=1.0, times=99), "truncated"),
        (Faults(empty=1.0, times=99), "empty-page"),
        (Faults(reset=1.0, times=99), "truncated"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_an_area_without_answers_is_an_error_and_no_empty_data_set(
    photographs: Photographs, tmp_path: Path, faults: Faults, said: str, partial: bool
) -> None:
    with StandIn(photographs, faults=faults) as server, pytest.raises(ServiceError, match=f"1 x {said}") as error:
        fetched(server, tmp_path / "out", partial=partial)
    assert "no statement that there are no photographs" in str(error.value)
    assert not (tmp_path / "out/manifest.parquet").exists()


def test_an_area_that_is_empty_is_said_to_be_empty(photographs: Photographs, tmp_path: Path) -> None:
    with StandIn(photographs) as server, pytest.raises(InputError, match="has no photograph of this area"):
        fetched(server, tmp_path / "out", bbox="1,1,1.01,1.01")


def test_pictures_that_are_refused_are_missing_and_come_later(photographs: Photographs, tmp_path: Path) -> None:
    with StandIn(photographs) as server:
        ports = server.ports
        fetched(server, tmp_path / "out", dry_run=True)
    some = Faults(error=0.3, times=99)
    with (
        StandIn(photographs, faults=some, ports=ports) as server,
        pytest.raises(ServiceError, match=r"(\d+) x photograph: server-error\. The other (\d+)"),
    ):
        fetched(server, tmp_path / "out")
    first = len(read_manifest(tmp_path / "out"))
    document = json.loads((tmp_path / "out/fetch.json").read_text())
    assert document["missing"] == {"photograph: server-error": COUNT - first}
    assert not document["complete"]
    assert 0 < first < COUNT
    with StandIn(photographs, ports=ports) as server:
        fetched(server, tmp_path / "out")
        assert len(server.pictures) == COUNT - first
    assert len(read_manifest(tmp_path / "out")) == COUNT


def test_a_token_that_expires_stops_with_a_sentence_loses_nothing_and_is_nowhere(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "s3cret-t0ken"
    out = tmp_path / "out"
    command = ["fetch", f"--bbox={BBOX}", "--out", str(out), "--per-second", "0", "-v", "--connections", "2"]
    monkeypatch.setenv("PANORAMAX_TOKEN", secret)
    with StandIn(photographs, token=secret, faults=Faults(expires_after=4)) as server:
        assert run([*command, "--endpoint", server.address]) == ServiceError.exit_code
        ports, asked = server.ports, server.requests["/api/search"]
        assert not server.leaked
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "The token in $PANORAMAX_TOKEN is refused" in lines[0]
    with StandIn(photographs, token=secret, ports=ports) as server:
        assert run([*command, "--endpoint", server.address]) == 0
        answered = server.requests["/api/search"]
    with StandIn(photographs, token=secret, ports=ports) as server:
        fetched(server, tmp_path / "other", dry_run=True)
        assert answered < server.requests["/api/search"] < answered + asked  # what was answered is not asked again
    text = captured.out + captured.err + "".join(capfd.readouterr())
    assert secret not in text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_an_endpoint_with_a_password_and_an_unknown_service_are_refused(tmp_path: Path) -> None:
    area = requested_area(bbox=BBOX)
    with pytest.raises(ConfigError, match="without a password"):
        fetch("panoramax", area, tmp_path / "out", endpoint="http://me:secret@127.0.0.1")
    with pytest.raises(ConfigError, match="not a service; services: panoramax"):
        fetch("streetview", area, tmp_path / "out")
    with pytest.raises(ConfigError, match="Panoramax has hd, sd, thumb"):
        fetch("panoramax", area, tmp_path / "out", size="huge")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_program_is_left_alone(town: Path) -> None:
    before = content(town)
    with pytest.raises(InputError, match="fetch did not write"):
        fetch("panoramax", requested_area(bbox=BBOX), town)
    assert content(town) == before
