import json
import threading
import time

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from PIL import Image

from pytest_cnnaudit import AuditError, Samples


def save(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image.convert(mode) if mode else image).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of 4×6 images, the number of each in its red channel."""
    for number, name in enumerate(["dog/b.png", "dog/a.png", "cat/z.png", "cat/deep/er.png", "cat/9.png"]):
        save(tmp_path / "val" / name, np.full((4, 6, 3), (number, 100, 255)))
    (tmp_path / "val" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "val" / ".hidden").mkdir()
    return tmp_path / "val"


def test_images_come_in_the_order_of_classes_and_names(folder):
    samples = Samples.from_folder(folder)
    assert samples.ids == ("cat/9.png", "cat/deep/er.png", "cat/z.png", "dog/a.png", "dog/b.png")
    assert [sample.label for sample in samples] == [0, 0, 0, 1, 1]
    assert samples.class_names == ("cat", "dog")
    assert [round(float(sample.image[0, 0, 0]) * 255) for sample in samples] == [4, 3, 2, 1, 0]
    assert samples[0].image.dtype == torch.float32
    assert samples[0].image[2].unique().tolist() == [1]
    assert samples[0].region() is None


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_number_of_workers_changes_nothing(folder, workers):
    expected = torch.stack([sample.image for sample in Samples.from_folder(folder, workers=0)])
    (batch,) = Samples.from_folder(folder, workers=workers).batches(9)
    assert batch.images.equal(expected)
    assert batch.labels.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("classes", "labels", "names"),
    [
        (["dog", "cat"], [1, 1, 1, 0, 0], ("dog", "cat")),
        (["bird", "cat", "dog"], [1, 1, 1, 2, 2], ("bird", "cat", "dog")),
        ({"cat": 281, "dog": 207}, [281, 281, 281, 207, 207], None),
    ],
)
def test_the_order_of_labels_can_be_given(folder, classes, labels, names):
    samples = Samples.from_folder(folder, classes=classes)
    assert [sample.label for sample in samples] == labels
    assert samples.class_names == names


@pytest.mark.parametrize(
    ("size", "shape"), [(None, (3, 4, 6)), (8, (3, 8, 8)), (3, (3, 3, 3)), ((5, 7), (3, 5, 7)), (4, (3, 4, 4))]
)
def test_images_have_the_size_asked_for(folder, size, shape):
    assert all(sample.image.shape == shape for sample in Samples.from_folder(folder, size=size))


def test_an_integer_size_cuts_the_centre_and_a_pair_squashes(tmp_path):
    stripes = np.zeros((10, 30, 3))
    stripes[:, 10:20, 0], stripes[:, 20:, 1] = 255, 255
    save(tmp_path / "a" / "x.png", stripes)
    cut = Samples.from_folder(tmp_path, size=10)[0].image
    assert cut[0].eq(1).all()
    assert not cut[1].any()
    squashed = Samples.from_folder(tmp_path, size=(10, 10))[0].image
    assert squashed[:, 5].argmax(0).tolist()[8:] == [1, 1]
    assert squashed[0, 0, 5] == 1


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("x.png", "L"),
        ("x.png", "P"),
        ("x.png", "RGBA"),
        ("x.png", "1"),
        ("x.jpg", "CMYK"),
        ("x.bmp", "L"),
        ("x.webp", "RGB"),
    ],
)
def test_every_kind_of_image_is_read_as_the_colours_it_shows(tmp_path, name, mode):
    save(tmp_path / "a" / name, np.full((4, 4, 3), 255), mode)
    sample = Samples.from_folder(tmp_path)[0]
    assert sample.image.shape == (3, 4, 4)
    assert sample.image.min() > 0.97


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_16_bit_greyscale_image_keeps_its_brightness(tmp_path, mode):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16)).save(tmp_path / "a" / "x.png")
    image = Samples.from_folder(tmp_path, mode=mode)[0].image
    assert image.unique().tolist() == [pytest.approx(0.5, abs=0.01)]


def test_the_orientation_a_camera_wrote_down_does_not_surprise(tmp_path):
    """Like torchvision's ImageFolder, which reads pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a" / "x.jpg", np.zeros((4, 8, 3)), exif=exif)
    assert Samples.from_folder(tmp_path)[0].image.shape == (3, 4, 8)


def test_one_channel_can_be_asked_for(folder):
    assert Samples.from_folder(folder, mode="L")[0].image.shape == (1, 4, 6)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_file_is_named_with_its_path(folder, content, workers):
    broken = folder / "dog" / "b.png"
    broken.write_bytes(content)
    samples = Samples.from_folder(folder, workers=workers)
    with pytest.raises(AuditError, match="cannot be read") as caught:
        list(samples)
    assert str(broken) in str(caught.value)


def test_a_file_that_is_cut_short_is_named_with_its_path(folder):
    path = folder / "dog" / "b.jpg"
    save(path, np.random.default_rng(0).integers(0, 255, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AuditError, match=r"b\.jpg cannot be read"):
        list(Samples.from_folder(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["cat"]}, "'dog'.*not among the classes"),
        ({"limit": 0}, "limit=0"),
        ({"boxes": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, options, message):
    with pytest.raises(AuditError, match=message):
        Samples.from_folder(folder, **options)


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(AuditError, match=r"no folder .*nowhere"):
        Samples.from_folder(tmp_path / "nowhere")
    with pytest.raises(AuditError, match="no images in"):
        Samples.from_folder(tmp_path)


def test_a_limit_draws_a_stable_subset_in_order(folder):
    everything = Samples.from_folder(folder).ids
    drawn = [Samples.from_folder(folder, limit=3, seed=seed).ids for seed in (0, 0, *range(1, 9))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 3
    assert all(len(ids) == 3 and list(ids) == sorted(ids, key=everything.index) for ids in drawn)
    assert Samples.from_folder(folder, limit=99).ids == everything


# Boxes ------------------------------------------------------------------------------------------------------------


def coco(boxes, names=("x.png",)):
    return json.dumps({
        "images": [{"id": 7 + number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": 7, "category_id": 1, "bbox": box} for n, box in enumerate(boxes)],
    })  # fmt: skip


def voc(boxes, name="x.png"):
    objects = "".join(
        f"<object><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for x, y, w, h in boxes
    )
    return f"<annotation><filename>{name}</filename>{objects}</annotation>"


@pytest.fixture(params=["coco", "voc", "voc folder"])
def boxed(request, tmp_path):
    """Makes samples of one black image with a white rectangle at each box."""

    def make(height, width, *boxes, size=None):
        pixels = np.zeros((height, width, 3))
        for x, y, w, h in boxes:
            pixels[y : y + h, x : x + w] = 255
        save(tmp_path / "images" / "a" / "x.png", pixels)
        path = {"coco": tmp_path / "boxes.json", "voc": tmp_path / "x.xml", "voc folder": tmp_path / "boxes" / "x.xml"}[
            request.param
        ]
        path.parent.mkdir(exist_ok=True)
        path.write_text(coco(boxes) if request.param == "coco" else voc(boxes))
        return Samples.from_folder(
            tmp_path / "images", size=size, boxes=path.parent if request.param == "voc folder" else path
        )[0]

    return make


@pytest.mark.parametrize("boxes", [[(3, 2, 4, 5)], [(0, 0, 1, 1), (5, 6, 7, 4)], [(0, 0, 12, 10)]])
def test_a_box_covers_the_pixels_it_stands_for(boxed, boxes):
    sample = boxed(10, 12, *boxes)
    assert sample.region().equal(sample.image[0] == 1)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (40, 60, 20),
        (60, 40, 20),
        (40, 60, 80),
        (40, 61, 20),
        (37, 53, 30),
        (40, 60, (20, 20)),
        (40, 60, (80, 30)),
        (33, 33, 33),
    ],
)
def test_boxes_follow_the_resize_and_the_crop(boxed, height, width, size):
    sample = boxed(height, width, (15, 10, 16, 20), size=size)
    bright = sample.image[0]
    region = sample.region()
    assert region.any()
    # A pixel that is all object lies in the box, one that has nothing of it does not; the edge is in between.
    assert region[bright > 0.99].all()
    assert not region[bright < 0.01].any()
    assert (region != (bright > 0.5)).double().mean() < 0.03


def test_a_box_that_is_cut_away_leaves_an_empty_region(boxed):
    assert not boxed(10, 60, (0, 0, 5, 5), size=10).region().any()


@pytest.mark.parametrize("file_name", ["a/x.png", "x.png", "x"])
def test_boxes_are_found_by_path_or_name(tmp_path, file_name):
    save(tmp_path / "images" / "a" / "x.png", np.zeros((4, 4, 3)))
    (tmp_path / "boxes.json").write_text(coco([(1, 1, 2, 2)], (file_name,)))
    sample = Samples.from_folder(tmp_path / "images", boxes=tmp_path / "boxes.json")[0]
    assert sample.boxes == ((1, 1, 3, 3),)


def test_an_image_without_boxes_has_no_region(tmp_path):
    save(tmp_path / "images" / "a" / "other.png", np.zeros((4, 4, 3)))
    (tmp_path / "boxes.json").write_text(coco([(1, 1, 2, 2)]))
    assert Samples.from_folder(tmp_path / "images", boxes=tmp_path / "boxes.json")[0].region() is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("b.json", "not json"), ("b.json", "[]"), ("b.json", '{"images": []}'),
     ("b.json", '{"images": [], "annotations": [{"bbox": [1], "image_id": 3}]}'),
     ("b.xml", "<annotation>"), ("b.xml", "<annotation><object><bndbox><xmin>a</xmin></bndbox></object></annotation>")],
)  # fmt: skip
def test_a_boxes_file_that_is_none_is_named(folder, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(AuditError, match=r"is not a (COCO|Pascal VOC) annotation file") as caught:
        Samples.from_folder(folder, boxes=tmp_path / name)
    assert name in str(caught.value)


def test_a_folder_of_boxes_without_any_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AuditError, match=r"no Pascal VOC files.*empty"):
        Samples.from_folder(folder, boxes=tmp_path / "empty")


@given(
    x=st.integers(0, 18),
    y=st.integers(0, 18),
    w=st.integers(1, 12),
    h=st.integers(1, 12),
    size=st.sampled_from([15, 30, 60, (15, 60)]),
)
def test_the_area_of_a_box_follows_the_scale(tmp_path_factory, x, y, w, h, size):
    folder = tmp_path_factory.mktemp("boxes")
    save(folder / "images" / "a" / "x.png", np.zeros((30, 30, 3)))
    (folder / "boxes.json").write_text(coco([(x, y, w, h)]))
    sample = Samples.from_folder(folder / "images", size=size, boxes=folder / "boxes.json")[0]
    height, width = sample.image.shape[1:]
    (box,) = sample.boxes
    assert box == pytest.approx((x * width / 30, y * height / 30, (x + w) * width / 30, (y + h) * height / 30))


# Streaming --------------------------------------------------------------------------------------------------------


def decode_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("cnnaudit-decode")]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def counted(loaded, count=500, fails_at=None):
    def load(position):
        loaded.append(position)
        if position == fails_at:
            raise AuditError(f"position {position} is broken")
        return torch.zeros(1, 2, 2), 0, None, None

    return Samples(load, [str(position) for position in range(count)], source="a test", workers=2)


def test_workers_read_ahead_no_more_than_a_bounded_number():
    loaded = []
    iterator = iter(counted(loaded))
    for _ in range(10):
        next(iterator)
    wait_until(lambda: len(loaded) >= 12)
    time.sleep(0.1)
    assert len(loaded) <= 10 + 16 * 2 + 2
    iterator.close()


def test_an_iteration_that_is_abandoned_leaves_no_thread():
    loaded = []
    for sample in counted(loaded):
        if sample.id == "3":
            break
    del sample
    wait_until(lambda: not decode_threads())
    assert len(loaded) < 100


def test_an_error_in_a_worker_surfaces_at_its_sample_and_leaves_no_thread():
    seen = []
    with pytest.raises(AuditError, match="position 20 is broken"):
        seen.extend(sample.id for sample in counted([], fails_at=20))
    assert seen == [str(position) for position in range(20)]
    wait_until(lambda: not decode_threads())


def test_every_sample_is_loaded_once_and_in_order():
    loaded = []
    assert [sample.id for sample in counted(loaded, 100)] == [str(position) for position in range(100)]
    assert sorted(loaded) == list(range(100))


def named_voc(*objects):
    parts = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>1</ymin><xmax>{x + 2}</xmax><ymax>2</ymax>"
        "</bndbox></object>"
        for name, x in objects
    )
    return f"<annotation><filename>1.png</filename>{parts}</annotation>"


@pytest.fixture
def twins(tmp_path):
    """cat/1.png and dog/1.png: names repeat across class folders, as they often do."""
    for name in ("cat", "dog"):
        save(tmp_path / "images" / name / "1.png", np.zeros((4, 6, 3)))
    return tmp_path


def test_annotations_in_the_images_layout_go_to_the_images_of_their_path(twins):
    for name, x in (("cat", 1), ("dog", 3)):
        (twins / "boxes" / name).mkdir(parents=True)
        (twins / "boxes" / name / "1.xml").write_text(named_voc(("thing", x)))
    samples = Samples.from_folder(twins / "images", boxes=twins / "boxes")
    assert [sample.boxes[0].x0 for sample in samples] == [1, 3]


def test_an_annotation_that_could_be_of_several_images_is_an_error_not_a_guess(twins):
    (twins / "1.xml").write_text(named_voc(("thing", 1)))
    with pytest.raises(AuditError, match=r"does not say which image called 1\.png"):
        Samples.from_folder(twins / "images", boxes=twins / "1.xml")[0]


def test_where_the_annotation_knows_the_class_only_its_boxes_count(tmp_path):
    save(tmp_path / "images" / "cat" / "1.png", np.zeros((4, 6, 3)))
    (tmp_path / "1.xml").write_text(named_voc(("cat", 1), ("dog", 3)))
    (sample,) = Samples.from_folder(tmp_path / "images", boxes=tmp_path / "1.xml")
    assert [box.x0 for box in sample.boxes] == [1]
