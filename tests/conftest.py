"""Shared fixtures: a small town of coloured photographs with splits, towers, a browser, answers and an S3 bucket."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from swclip.answers.record import Answer, CellAnswer, PhotographEvidence, RankedCandidate, RegionAnswer

# Set before torch is imported, and for child processes too: the threads of several workers would compete.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = [
    "fixtures.evaluations", "fixtures.galleries", "fixtures.inspections", "fixtures.models", "fixtures.processes",
    "fixtures.recipes",
]  # fmt: skip

PLACES, PER_PLACE = 20, 3

# The objects of thousands of collected tests stay: the garbage collector would search them again and again.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# A deadline would fail on a busy machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Shells start background jobs with SIGINT ignored, and children inherit that: tests that send it would hang.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is a terminal, which gets bars."""
    from swclip import progress

    monkeypatch.setattr(progress.console, "_force_terminal", True)


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with manifest.parquet and splits.parquet: 20 places within 500 m, three photographs each.

    The colour of a photograph encodes its position: red increases to the north, green to the east. Ten places have one
    validation query each, the other ten one query each; all other photographs are for training.
    """
    from swclip.data.manifest import write_manifest
    from swclip.data.splits import write_splits
    from swclip.geo.coordinates import LocalFrame

    folder = tmp_path_factory.mktemp("town")
    rng = np.random.default_rng(5)
    # A jittered 5 x 4 lattice: places are at least 60 m apart.
    north, east = np.divmod(np.arange(PLACES), 5)
    metres = np.stack([east * 100.0, north * 100.0], axis=1) + rng.uniform(-20, 20, (PLACES, 2))
    positions = LocalFrame(53.8, -1.55).to_deg(metres)
    rows = []
    for place in range(PLACES):
        colour = np.array([60 + 50 * north[place], 40 + 45 * east[place], 120])
        for number in range(PER_PLACE):
            name = f"p{place:02d}-{number}"
            pixels = np.clip(colour + rng.normal(0, 6, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=90)
            held_out = "val" if place % 2 else "query"
            rows.append(
                {
                    "image_id": name,
                    "image_path": f"{name}.jpg",
                    "lat_deg": positions[place, 0],
                    "lon_deg": positions[place, 1],
                    "accuracy_m": 5.0 if number else np.nan,
                    "city": ("Leeds", "York")[place // 10],
                    "place_id": f"p{place:02d}",
                    "split": "train" if number else held_out,
                }
            )
    frame = pd.DataFrame(rows)
    manifest = write_manifest(folder, frame.drop(columns="split"))
    places = frame.drop_duplicates("place_id").rename(columns={"place_id": "candidate_id"})
    ids = frame[frame["split"] != "query"].groupby("place_id")["image_id"].apply(list)
    write_splits(
        folder / "splits.parquet",
        frame[["image_id", "split"]].assign(block_id=None),
        places[["candidate_id", "lat_deg", "lon_deg", "city"]].assign(
            image_ids=ids.reindex(places["candidate_id"]).to_numpy(), for_val=True, for_query=True
        ),
        {"protocol": "known-places", "seed": 5, "parameters": {}, "manifest_digest": manifest.digest},
    )
    return folder


@pytest.fixture(scope="session")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders in hub format with random weights of width 32: dinov2, clip, siglip (both two-tower), bert."""
    return make_towers(tmp_path_factory.mktemp("towers"))


WORDS = ["a", "at", "in", "x", "street", "view", "photo", "taken", "leeds", "york", "newcastle", "upon", "tyne"]
WORDS += ["latitude", "longitude", ",", ".", "-", "grey"]


def make_towers(folder: Path) -> Path:
    """Write the towers."""
    import torch
    import transformers as hf

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 8}
    text = {**small, "vocab_size": 64, "max_position_embeddings": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {
            "dinov2": hf.Dinov2Model(hf.Dinov2Config(**{**vision, "mlp_ratio": 2})),
            "clip": hf.CLIPModel(
                hf.CLIPConfig(
                    text_config={**text, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
                    vision_config=vision,
                    projection_dim=24,
                )
            ),
            "siglip": hf.SiglipModel(
                hf.SiglipConfig(
                    text_config={**text, "max_position_embeddings": 32, "pad_token_id": 2, "eos_token_id": 2},
                    vision_config=vision,
                )
            ),
            "bert": hf.BertModel(hf.BertConfig(**text)),
        }
    special = {
        "clip": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"},
        "siglip": {"eos_token": "</s>", "pad_token": "</s>"},
        "bert": {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"},
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        if name in special:
            _tokenizer(**special[name]).save_pretrained(folder / name)
        if name != "bert":
            normal = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
            side = {"height": 32, "width": 32}
            size = {"size": side} if name == "siglip" else {"size": {"shortest_edge": 40}, "crop_size": side}
            values = {**size, **normal, "do_center_crop": name != "siglip", "resample": 3}
            (folder / name / "preprocessor_config.json").write_text(json.dumps(values))
    return folder


def _tokenizer(**special: str) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS, *"0123456789"]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **special)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def _answers() -> st.SearchStrategy[Answer]:
    """Arbitrary answers: names of any characters, abstentions, unreadable photographs."""
    share = st.floats(0.0, 1.0)
    lat, lon = st.floats(-90.0, 90.0), st.floats(-180.0, 180.0)
    name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
    names, shares = st.lists(name, max_size=3).map(tuple), st.lists(share, max_size=3).map(tuple)
    evidence = st.builds(
        PhotographEvidence, photograph=name, probability=share, location_similarity=share,
        image_share=st.none() | share, image_ids=names, image_similarities=shares,
    )  # fmt: skip
    candidate = st.builds(
        RankedCandidate, candidate_id=name, lat_deg=lat, lon_deg=lon, probability=share,
        distance_m=st.floats(0.0, 2e7), city=st.none() | name, image_ids=names, image_similarities=shares,
        location_similarity=st.none() | share, image_share=st.none() | share,
        evidence=st.lists(evidence, max_size=2).map(tuple),
    )  # fmt: skip
    cell_id = st.just("8b195da49b71fff")
    cells = st.tuples(
        *(
            st.builds(
                CellAnswer, resolution=st.just(r), cell_id=cell_id, lat_deg=lat, lon_deg=lon, probability=share,
                point_cell_id=cell_id, point_cell_probability=share,
            )
            for r in (6, 8)
        )
    )  # fmt: skip
    resolution = st.just(11)
    region = st.builds(
        RegionAnswer, probability=share, area_km2=st.floats(0.0, 1e4), cannot_tell=st.just(False),
        resolution=resolution, cells=st.just(("8b195da49b71fff",)), calibrated=st.booleans(),
    )  # fmt: skip
    abstaining = st.builds(
        RegionAnswer, probability=share, area_km2=st.none(), cannot_tell=st.just(True), resolution=resolution,
        reason=name,
    )  # fmt: skip
    answered = st.builds(
        Answer, photograph=name, lat_deg=lat, lon_deg=lon, probability_within_50m=share, argmax_lat_deg=lat,
        argmax_lon_deg=lon, estimator=st.just("mode"),
        candidates=st.lists(candidate, min_size=1, max_size=3).map(tuple), city=st.none() | name,
        city_probability=st.none() | share, point_city=st.none() | name, point_city_probability=st.none() | share,
        cells=cells, scored_share=share, left_out_at_most=share, region=st.none() | region | abstaining,
        error=st.none(), photographs=names,
    )  # fmt: skip
    return answered | st.builds(Answer, photograph=name, error=name)


@pytest.fixture(scope="session")
def made_up_answers() -> st.SearchStrategy[list[Answer]]:
    return st.lists(_answers(), max_size=4)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of the bucket `bucket` in a local S3 server."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    with pytest.MonkeyPatch.context() as patch:
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        port = server.get_host_and_port()[1]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
        # Servers of one process share their contents.
        for item in client.list_objects_v2(Bucket="bucket").get("Contents", []):
            client.delete_object(Bucket="bucket", Key=item["Key"])
        client.delete_bucket(Bucket="bucket")
        server.stop()
