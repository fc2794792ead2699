"""Pictures on disk: what is kept of them, under which names, and what happens when they can't be written."""

import base64
import io
import json
import re
import threading

import numpy as np
import pytest
from PIL import Image

from pytest_cnnaudit.gallery import PictureFiles
from pytest_cnnaudit.gallery import images as module
from pytest_cnnaudit.results import Picture


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "report"


@pytest.fixture
def files(folder):
    return PictureFiles(folder)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 / height, x * 255 / width, 0 * x + 90], -1).astype(np.uint8)


def stored(folder, path):
    with Image.open(folder / path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (128, 128, 3), (129, 3, 3), (200, 300, 3), (200, 300)])
@pytest.mark.parametrize("form", ["lossless", "numbers"])
def test_what_matters_by_the_pixel_is_stored_without_loss(files, folder, shape, form):
    pixels = noise(*shape)
    paths = files.save(Picture(pixels, form=form))
    files.wait()
    found = stored(folder, paths["src"])
    np.testing.assert_array_equal(found if len(shape) == 3 or found.ndim == 2 else found[..., 0], pixels)


def test_small_pictures_are_png_and_large_ones_webp(files):
    names = [files.save(Picture(noise(side, 5, 3)))["src"] for side in (128, 129)]
    files.wait()
    assert [name.rsplit(".", 1)[1] for name in names] == ["png", "webp"]


def test_a_photo_loses_what_no_eye_misses_and_takes_a_part_of_the_space(files, folder):
    pixels = (smooth(300, 300) * 0.9 + noise(300, 300, 3) * 0.06).astype(np.uint8)
    paths = [files.save(Picture(pixels, form=form))["src"] for form in ("lossless", "photo")]
    files.wait()
    sizes = [(folder / path).stat().st_size for path in paths]
    assert sizes[1] < sizes[0] / 3
    assert 0 < np.abs(stored(folder, paths[1]).astype(int) - pixels).mean() < 6


def test_a_small_photo_loses_nothing(files, folder):
    pixels = noise(32, 32, 3)
    path = files.save(Picture(pixels, form="photo"))["src"]
    files.wait()
    np.testing.assert_array_equal(stored(folder, path), pixels)


def test_lists_get_a_thumbnail_of_large_pictures_only(files, folder):
    assert files.save(Picture(smooth(512, 300)))["thumb"] is None
    thumb = files.save(Picture(smooth(1024, 512)))["thumb"]
    files.wait()
    small = stored(folder, thumb).astype(int)
    assert small.shape == (384, 192, 3)
    assert np.abs(small - smooth(384, 192)).mean() < 4  # the same picture, averaged


@pytest.mark.parametrize("shape", [(6, 4, 3), (150, 140, 3)])
def test_the_numbers_script_hands_over_the_very_pixels(files, folder, shape):
    pixels = noise(*shape)
    paths = files.save(Picture(pixels, form="numbers"))
    files.wait()
    script = (folder / paths["numbers"]).read_text()
    call = re.fullmatch(r"cnnauditPixels\((.*)\);\n", script)
    source, data = json.loads(f"[{call[1]}]")
    assert source == paths["src"]
    kind, encoded = re.fullmatch(r"data:image/(png|webp);base64,(.*)", data).groups()
    assert paths["src"].endswith(kind)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), pixels)


def test_numbers_are_stored_only_where_they_are_wanted(files, folder):
    assert files.save(Picture(noise(4, 4, 3)))["numbers"] is None
    assert files.save(Picture(noise(4, 4, 3), form="photo"))["numbers"] is None
    files.wait()
    assert not (folder / "data").exists()


def test_the_same_picture_is_one_file_and_other_pictures_are_others(files, folder):
    pixels = np.arange(24, dtype=np.uint8)
    first = files.save(Picture(pixels.reshape(2, 4, 3)))
    files.wait()
    written = (folder / first["src"]).stat().st_mtime_ns
    for again in (files, PictureFiles(folder)):  # another process has its own
        assert again.save(Picture(pixels.reshape(2, 4, 3).copy(), "with a caption")) == first
        again.wait()
    assert (folder / first["src"]).stat().st_mtime_ns == written
    others = [Picture(pixels.reshape(4, 2, 3)), Picture(255 - pixels.reshape(2, 4, 3)), Picture(pixels.reshape(4, 6))]
    assert len({files.save(each)["src"] for each in others} | {first["src"]}) == 4
    files.wait()
    assert len(list((folder / "images").iterdir())) == 4


def test_a_picture_of_a_transposed_array_is_what_it_shows(files, folder):
    pixels = noise(4, 6, 3).transpose(1, 0, 2)
    path = files.save(Picture(pixels))["src"]
    files.wait()
    np.testing.assert_array_equal(stored(folder, path), pixels)


def test_saving_returns_before_the_picture_is_written(files, folder, monkeypatch):
    may_write, real = threading.Event(), module.write_atomically

    def slow(path, content):
        assert may_write.wait(10)
        real(path, content)

    monkeypatch.setattr(module, "write_atomically", slow)
    paths = [files.save(Picture(noise(4, 4, 3, seed=seed)))["src"] for seed in range(5)]
    wait = files.pending()
    assert not any((folder / path).exists() for path in paths)
    may_write.set()
    wait()
    assert all((folder / path).exists() for path in paths)


def test_a_picture_that_can_not_be_written_is_told_once_and_tried_again(files, folder, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    real = module.write_atomically
    monkeypatch.setattr(module, "write_atomically", full)
    files.save(Picture(noise(4, 4, 3)))
    with pytest.raises(OSError, match="no space"):
        files.wait()
    files.wait()
    monkeypatch.setattr(module, "write_atomically", real)
    path = files.save(Picture(noise(4, 4, 3)))["src"]
    files.wait()
    assert (folder / path).exists()
