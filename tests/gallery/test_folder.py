"""A gallery in an object store: a real HTTP server on loopback that speaks S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from swclip.errors import ArtefactError, InputError
from swclip.gallery.filters import EntryFilter
from swclip.gallery.inspect import gallery_info, verify
from swclip.gallery.store import GalleryStore
from swclip.lance_tables import storage_options

from .conftest import make_entries, make_store

URL = "s3://bucket/galleries/town"


@pytest.fixture
def store(bucket: Any) -> Iterator[GalleryStore]:
    yield make_store(URL, make_entries(40))
    for one in bucket.list_objects_v2(Bucket="bucket").get("Contents", []):
        bucket.delete_object(Bucket="bucket", Key=one["Key"])


def test_every_verb_works_at_a_url(store: GalleryStore, tmp_path: Path) -> None:
    again = GalleryStore.open(URL)
    assert again.append(make_entries(8, prefix="q")).inserted == 8
    assert again.upsert(make_entries(4, seed=4)).updated == 4
    assert again.delete(EntryFilter(image_ids=["p00000"])).deleted == 1
    assert verify(store) == []
    assert (store.count(), store.version) == (47, 4)
    info = gallery_info(store)
    assert (info.photographs, info.candidates) == (47, 10)
    assert info.bytes > 1000
    local = store.copy(tmp_path / "local", EntryFilter(cities=["York"]))
    assert local.count() == store.count(EntryFilter(cities=["York"]))
    back = local.copy("s3://bucket/galleries/york")
    assert back.read().sort_by("entry_id").equals(local.read().sort_by("entry_id"))
    store.compact(timedelta(0))
    assert (len(store.versions()), store.count()) == (1, 47)


def test_a_gallery_at_a_url_is_not_replaced(store: GalleryStore) -> None:
    with pytest.raises(InputError, match="a gallery exists"):
        make_store(URL, make_entries(4))
    assert store.count() == 40


def test_an_unfinished_upload_is_not_a_gallery(bucket: Any, store: GalleryStore) -> None:
    """The table is written last: without it, earlier uploads are ignored and overwritten."""
    for one in bucket.list_objects_v2(Bucket="bucket", Prefix="galleries/town/entries.lance")["Contents"]:
        bucket.delete_object(Bucket="bucket", Key=one["Key"])
    with pytest.raises(ArtefactError, match=r"entries\.lance\) is missing"):
        GalleryStore.open(URL)
    assert make_store(URL, make_entries(4)).count() == 4
    with pytest.raises(ArtefactError, match="is not a gallery"):
        GalleryStore.open("s3://bucket/galleries/nowhere")


def test_an_unreachable_store_is_refused(bucket: Any) -> None:
    with pytest.raises(InputError, match=r"s3://nowhere/gallery: the store refuses.*credentials"):
        make_store("s3://nowhere/gallery", make_entries(4))
    with pytest.raises(InputError, match="not a readable URL"):
        GalleryStore.open("gopher://host/gallery")


def test_the_model_is_downloaded_once_and_again_when_it_changes(
    bucket: Any, store: GalleryStore, tmp_path: Path
) -> None:
    folder = store.model_folder(tmp_path)
    assert (folder / "model" / "config.json").read_text() == "{}"
    (folder / "model" / "mark").write_text("kept")
    assert (store.model_folder(tmp_path) / "model" / "mark").is_file()
    bucket.put_object(Bucket="bucket", Key="galleries/town/model/config.json", Body=b'{"a": 1}')
    changed = store.model_folder(tmp_path)
    assert changed != folder
    assert (changed / "model" / "config.json").read_text() == '{"a": 1}'
    bucket.delete_object(Bucket="bucket", Key="galleries/town/model/config.json")
    with pytest.raises(ArtefactError, match="the gallery has no model"):
        store.model_folder(tmp_path)


def test_plain_http_is_used_for_an_http_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://objects.example.org")
    assert storage_options("s3://b/g") == {
        "aws_endpoint": "https://objects.example.org",
        "allow_http": "false",
    }
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    assert storage_options("s3://b/g") == {"aws_endpoint": "http://127.0.0.1:9000", "allow_http": "true"}
    assert storage_options(os.fspath(Path("folder"))) is None
    assert storage_options("gs://b/g") is None
