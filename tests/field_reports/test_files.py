"""Files and processes: what signals keep and leave, reported from use; one case a row."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swclip.gallery.gallery import Gallery
from swclip.gallery.read_write import save_gallery
from swclip.models.feature_cache import map_shard

PHOTOGRAPHS, BEFORE_THE_SIGNAL = 12, 7

# A command that computes the features of a folder of photographs; after some it waits for a signal.
COMMAND = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fixtures.galleries import TinyModel
from swclip.cli import app
from swclip.models.feature_cache import FeatureCache

class Waiting(TinyModel):
    def image_features(self, pixels):
        if self.seen == int(sys.argv[4]):
            print("waiting", flush=True)
            while True:
                time.sleep(1)
        return super().image_features(pixels)

@app.app.command
def features():
    FeatureCache(Path(sys.argv[3])).features(Waiting(), sorted(Path(sys.argv[2]).iterdir()), batch_size=1)

app.main(["features"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "stored"),
    [
        pytest.param(signal.SIGINT, 130, BEFORE_THE_SIGNAL, id="Ctrl-C"),
        # Batch systems and containers end a process by SIGTERM: up to 512 photographs were lost.
        pytest.param(signal.SIGTERM, 143, BEFORE_THE_SIGNAL, id="SIGTERM"),
        pytest.param(signal.SIGKILL, -9, 0, id="SIGKILL"),
    ],
)
def test_signals_during_feature_computation(sent: int, code: int, stored: int, tmp_path: Path) -> None:
    photographs, cache = tmp_path / "photographs", tmp_path / "cache"
    photographs.mkdir()
    for number in range(PHOTOGRAPHS):
        colours = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(colours).save(photographs / f"{number:02d}.png")
    arguments = [str(Path(__file__).parents[1]), str(photographs), str(cache), str(BEFORE_THE_SIGNAL)]
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(sent)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert ("run the same command again to resume" in errors) == (code > 0)
    shards = [map_shard(path) for path in cache.rglob("*.safetensors")]
    assert sum(len(shard[0]) for shard in shards if shard is not None) == stored
    (folder,) = {path.parent for path in cache.rglob("*.safetensors")} or {cache}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


# A gallery is written; the process is killed when the table is there and the gallery is not yet in place.
BUILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from fixtures.galleries import TinyModel, _random_gallery
from swclip.gallery import store
from swclip.gallery.read_write import save_gallery

write = store.write_table
def write_and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
store.write_table = write_and_die
save_gallery(_random_gallery(0), sys.argv[2], TinyModel())
"""


@pytest.mark.slow
def test_hidden_copy_that_sigkill_leaves_beside_a_gallery_goes_with_the_next_run(
    make_gallery: Callable[..., Gallery], model: Any, tmp_path: Path
) -> None:
    save_gallery(make_gallery(0), tmp_path / "gallery", model)
    command = [sys.executable, "-c", BUILD, str(Path(__file__).parents[1]), str(tmp_path / "gallery")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    hidden = [path for path in tmp_path.iterdir() if path.name != "gallery"]
    assert [path.name for path in hidden] == [".gallery.swclip-1"]
    assert list(hidden[0].rglob("*.lance")), "the copy has a table"
    save_gallery(make_gallery(1), tmp_path / "gallery", model)
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]
