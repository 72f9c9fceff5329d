"""Embedding in batches, cached features, undecodable photographs, and a killed process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from swclip.errors import InputError
from swclip.models.embed import embed_features, embed_photographs, embed_positions
from swclip.models.feature_cache import FeatureCache, default_cache_folder, map_shard
from swclip.models.locator_model import LocatorModel

Make = Callable[[int], list[Path]]


def _one_by_one(model: object, paths: list[Path]) -> np.ndarray:
    with torch.no_grad():
        rows = [model.encode_pixels(torch.from_numpy(model.preprocess.read(path))[None]) for path in paths]
    return torch.cat(rows).numpy()


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (4, 3), (64, None)])
def test_batches_equal_one_by_one_in_order(model: object, photographs: Make, batch_size: int, workers: int) -> None:
    paths, seen = photographs(11), []
    result = embed_photographs(
        model, paths, batch_size=batch_size, workers=workers, progress=lambda done, total: seen.append((done, total))
    )
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, _one_by_one(model, paths), atol=1e-6)
    np.testing.assert_array_equal(result, np.concatenate([embed_photographs(model, [path]) for path in paths]))
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1.0, rtol=1e-5)
    assert seen[-1] == (11, 11)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_the_mode_is_restored_and_no_gradients_are_computed(model: object, photographs: Make) -> None:
    model.train()
    embed_photographs(model, photographs(2))
    embed_positions(model, [[51.5, -0.1]])
    assert model.training
    assert model.tower.grad is None


def test_positions_in_batches_equal_all_at_once(model: object) -> None:
    positions = np.random.default_rng(0).uniform(-80, 80, (37, 2))
    words = [{"city": str(i)} for i in range(37)]
    whole = embed_positions(model, positions, words)
    np.testing.assert_allclose(embed_positions(model, positions, words, batch_size=5), whole, atol=1e-6)
    assert whole.shape == (37, 8)


def _spoil(paths: list[Path]) -> dict[Path, str]:
    """A text, half a picture, an empty file, none at all."""
    paths[1].write_text("not a picture")
    paths[4].write_bytes(paths[4].read_bytes()[:200])
    paths[5].write_bytes(b"")
    paths[8].unlink()
    return {paths[1]: "not an image", paths[4]: "cut short", paths[5]: "empty", paths[8]: "no such file"}


@pytest.mark.parametrize("kept", [False, True])
def test_undecodable_photographs_are_reported_and_the_others_embedded(
    model: object, photographs: Make, tmp_path: Path, kept: bool
) -> None:
    paths = photographs(10)
    whole, bad = _one_by_one(model, paths), _spoil(paths)
    cache = FeatureCache(tmp_path / "cache") if kept else None
    failures: list[tuple[Path, str]] = []
    result = embed_photographs(model, paths, batch_size=3, failures=failures, cache=cache)
    assert [path for path, _ in failures] == list(bad)
    for path, reason in failures:
        assert bad[path] in reason or (path == paths[4] and reason)
    good = [i for i, path in enumerate(paths) if path not in bad]
    np.testing.assert_allclose(result[good], whole[good], atol=1e-6)
    assert np.isnan(result[[1, 4, 5, 8]]).all()
    with pytest.raises(InputError, match=r"4 photograph.*001\.png.*and 1 more"):
        embed_photographs(model, paths, cache=cache)


def test_a_first_batch_may_have_no_readable_photograph(model: object, photographs: Make) -> None:
    paths = photographs(5)
    for path in paths[:2]:
        path.write_text("no")
    failures: list[tuple[Path, str]] = []
    result = embed_photographs(model, paths, batch_size=2, failures=failures)
    assert result.shape == (5, 8)
    assert len(failures) == 2
    assert embed_photographs(model, paths[:2], failures=[]).shape[0] == 2
    assert embed_photographs(model, []).shape[0] == 0


def test_cached_features_equal_the_towers_and_are_computed_once(
    model: object, photographs: Make, tmp_path: Path
) -> None:
    paths = photographs(9)
    cache = FeatureCache(tmp_path / "cache", shard_rows=4)
    assert not cache.holds(model)
    first = cache.features(model, paths, batch_size=2)
    assert model.seen == 9
    assert cache.holds(model)
    moved = [path.rename(path.with_name(f"moved-{path.name}")) for path in paths]
    copy = moved[0].with_name("copy.png")
    copy.write_bytes(moved[0].read_bytes())
    again = cache.features(model, [*moved, copy])
    assert model.seen == 9  # by content: neither the new names nor the copy are computed
    np.testing.assert_array_equal(again, first[[*range(9), 0]])
    np.testing.assert_allclose(embed_features(model, first), _one_by_one(model, moved), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "text"), [("builtin:small", "builtin:small"), ("dinov2", "bert"), ("siglip", "clip")]
)
def test_embeddings_do_not_depend_on_the_batch_or_the_cache(
    image: str, text: str, make_model: Callable[..., LocatorModel], photographs: Make, tmp_path: Path
) -> None:
    whole, paths = make_model(image, text, prompt="in {city} at {location}"), photographs(40)
    alone = np.concatenate([embed_photographs(whole, [path]) for path in paths])
    for size in (3, 40):
        np.testing.assert_array_equal(embed_photographs(whole, paths, batch_size=size), alone)
    cache = FeatureCache(tmp_path / "cache", shard_rows=4)
    embed_photographs(whole, paths[5:11], batch_size=6, cache=cache)  # as a run that is killed leaves it
    for _ in range(2):
        np.testing.assert_array_equal(embed_photographs(whole, paths, cache=cache), alone)
    np.testing.assert_array_equal(whole.encode_images(paths), alone)

    positions = np.random.default_rng(0).uniform(-80, 80, (40, 2))
    words = [{"city": ("york", "newcastle upon tyne", None)[row % 3]} for row in range(40)]
    together = embed_positions(whole, positions, words)
    single = [embed_positions(whole, positions[[row]], words[row : row + 1]) for row in range(40)]
    np.testing.assert_array_equal(together, np.concatenate(single))


def test_a_shard_of_another_type_is_computed_again(model: object, photographs: Make, tmp_path: Path) -> None:
    paths, cache = photographs(5), FeatureCache(tmp_path)
    features = cache.features(model, paths)
    (shard,) = tmp_path.rglob("*.safetensors")
    tensors = load_file(shard)
    save_file({**tensors, "features": tensors["features"].astype(np.float16)}, shard)
    np.testing.assert_array_equal(cache.features(model, paths), features)
    assert model.seen == 10


def test_an_edited_photograph_and_another_tower_are_computed_again(
    model: object, photographs: Make, tmp_path: Path
) -> None:
    paths, cache = photographs(3), FeatureCache(tmp_path)
    before = cache.features(model, paths)
    Image.new("RGB", (16, 12), "red").save(paths[1])
    after = cache.features(model, paths)
    assert (before[1] != after[1]).any()
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    other = type(model)(seed=1)
    assert not cache.holds(other)
    assert (cache.features(other, paths) != after).any()
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_a_damaged_shard_is_computed_again(
    model: object, photographs: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths, cache = photographs(6), FeatureCache(tmp_path, shard_rows=3)
    first = cache.features(model, paths, batch_size=3)
    shard = next(tmp_path.rglob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    assert map_shard(shard) is None
    np.testing.assert_array_equal(cache.features(model, paths, batch_size=3), first)
    assert model.seen == 9
    assert "damaged" in caplog.text


def test_a_truncated_line_of_the_index_only_costs_a_hash(model: object, photographs: Make, tmp_path: Path) -> None:
    paths, cache = photographs(3), FeatureCache(tmp_path)
    first = cache.features(model, paths)
    index = tmp_path / "hashes.jsonl"
    index.write_bytes(index.read_bytes()[:-20])
    np.testing.assert_array_equal(cache.features(model, paths), first)
    assert model.seen == 3
    lines = [line for line in index.read_text().splitlines() if line]
    assert json.loads(lines[-1])[0] == str(paths[2])


def test_an_unchanged_photograph_is_not_read_again(
    model: object, photographs: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = photographs(3), FeatureCache(tmp_path)
    first = cache.features(model, paths)

    def read(path: object) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("swclip.models.feature_cache.photograph_sha256", read)
    np.testing.assert_array_equal(cache.features(model, paths), first)


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWCLIP_CACHE", str(tmp_path / "there"))
    assert default_cache_folder() == tmp_path / "there" == FeatureCache().folder
    monkeypatch.delenv("SWCLIP_CACHE")
    assert default_cache_folder().parts[-2:] == (".cache", "swclip")


_KILLED_RUN = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from swclip.models.feature_cache import FeatureCache

class Killed(tiny.TinyModel):
    def image_features(self, pixels):
        if self.seen == 21:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().image_features(pixels)

FeatureCache(Path(sys.argv[2]), shard_rows=4).features(Killed(), sorted(Path(sys.argv[3]).iterdir()), batch_size=2)
"""


@pytest.mark.slow
def test_a_killed_run_resumes(model: object, photographs: Make, tmp_path: Path) -> None:
    paths, folder = photographs(60), tmp_path / "cache"
    fixture = Path(__file__).parents[1] / "fixtures" / "galleries.py"
    command = [sys.executable, "-c", _KILLED_RUN, str(fixture), str(folder), str(paths[0].parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    kept = sum(len(map_shard(p)[0]) for p in folder.rglob("*.safetensors"))
    assert kept == 20
    result = FeatureCache(folder).features(model, paths)
    assert model.seen == 60 - kept
    np.testing.assert_array_equal(embed_features(model, result), embed_photographs(model, paths))
