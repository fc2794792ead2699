"""What pictures cost: time of the computation's own thread, process time and space, against PNG written in place.

    pytest -m benchmark -s tests/benchmarks/test_gallery.py

240 pictures of 224×224: a quarter each of what a model sees (with its numbers), of differences, and twice of photos.
"""

import io
import time

import numpy as np
import pytest
from PIL import Image

from pytest_cnnaudit.gallery import PictureFiles
from pytest_cnnaudit.results import Picture

pytestmark = pytest.mark.benchmark

COUNT, SIDE = 240, 224


@pytest.fixture(scope="module")
def pictures():
    """Smooth colours with some grain, as photographs have; differences are grain on grey."""
    random = np.random.default_rng(0)
    made = []
    for number in range(COUNT):
        coarse = random.integers(40, 216, (8, 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(float)
        grain = random.normal(0, 3, smooth.shape)
        form = ("numbers", "lossless", "photo", "photo")[number % 4]
        pixels = (128 + 8 * grain if form == "lossless" else smooth + grain).clip(0, 255).astype(np.uint8)
        made.append(Picture(pixels, form=form))
    return made


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def test_pictures_cost_the_computation_little(pictures, tmp_path, capsys):
    began, worked = time.thread_time(), time.process_time()
    (tmp_path / "png").mkdir()
    for number, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture.pixels).save(buffer, "PNG")
        (tmp_path / "png" / f"{number}.png").write_bytes(buffer.getvalue())
    in_place, png = time.thread_time() - began, time.process_time() - worked

    files = PictureFiles(tmp_path / "ours")
    began, worked = time.thread_time(), time.process_time()
    for picture in pictures:
        files.save(picture)
    own = time.thread_time() - began
    files.wait()
    ours = time.process_time() - worked
    with capsys.disabled():
        for name, thread, process in (("png", in_place, png), ("ours", own, ours)):
            print(
                f"\n  {COUNT} pictures of {SIDE}×{SIDE}, {name}: {1000 * thread:.0f} ms of the computation's thread, "
                f"{1000 * process:.0f} ms in all, {size(tmp_path / name):.1f} MiB",
                end="",
            )
    assert own <= 0.25 * in_place
    assert ours <= png
