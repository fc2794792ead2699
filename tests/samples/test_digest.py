"""The digest of samples follows from their ids alone, their content from all that a measurement may read."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_cnnaudit import AuditError, Samples
from pytest_cnnaudit.samples import sources
from pytest_cnnaudit.samples.digest import content, digest


def named(*ids):
    def load(position):
        raise AssertionError("images are not opened for a digest")

    return Samples(load, ids, source="nowhere", workers=0)


def test_it_is_known_and_opens_no_image():
    assert digest(named("a", "b")) == digest(named("a", "b"))
    assert digest(named("a")) == "e357ae2bc133f242"  # or reports of two versions could not be compared


@pytest.mark.parametrize("ids", [("b", "a"), ("a",), ("ab",), ("a", "b", "c"), ("a", "1 b"), ("a", "B"), ("a1 b",)])
def test_other_names_or_another_order_change_it(ids):
    assert digest(named(*ids)) != digest(named("a", "b"))


def test_a_part_has_its_own_and_labels_and_images_play_no_part():
    images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    one, other = Samples.from_tensors(images, [0] * 6), Samples.from_tensors(1 - images, [1] * 6)
    assert digest(one) == digest(other)
    assert digest(one[:3]) == digest(one[[0, 1, 2]]) != digest(one)


def test_a_file_name_of_any_bytes_will_do():
    strange = b"caf\xe9/\xff.png".decode("utf-8", "surrogateescape")
    assert len(digest(named(strange))) == 16
    assert digest(named(strange)) != digest(named(b"caf\xe9/\xfe.png".decode("utf-8", "surrogateescape")))


GIVEN = {
    "images": torch.randint(0, 256, (3, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    "labels": (0, 1, 2),
    "boxes": ((0, 0, 2, 2), None, ((1, 1, 3, 3), (0, 0, 1, 1))),
    "masks": (None, torch.eye(6).bool(), None),
    "ids": ("a", "b", "c"),
    "class_names": ("x", "y", "z"),
}


def brightened(images):
    images = images.clone()
    images[1, 2, 5, 5] += 1
    return images


CHANGES = {
    "pixel": {"images": brightened(GIVEN["images"])},
    "type of pixels": {"images": GIVEN["images"].float() / 255},
    "order of images": {"images": GIVEN["images"].flip(0)},
    "size": {"images": GIVEN["images"].reshape(3, 3, 9, 4)},
    "label": {"labels": (0, 2, 2)},
    "box": {"boxes": ((0, 0, 2, 3), None, ((1, 1, 3, 3), (0, 0, 1, 1)))},
    "box moved to another": {"boxes": (None, (0, 0, 2, 2), ((1, 1, 3, 3), (0, 0, 1, 1)))},
    "no boxes": {"boxes": None},
    "no box": {"boxes": (None, None, None)},
    "mask": {"masks": (None, torch.eye(6).bool().flip(0), None)},
    "mask of another": {"masks": (torch.eye(6).bool(), None, None)},
    "id": {"ids": ("a", "b", "d")},
    "class name": {"class_names": ("x", "y", "w")},
    "no class names": {"class_names": None},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_anything_else_in_tensors_changes_the_content(change):
    before = content(Samples.from_tensors(**GIVEN))
    assert len(before) == 16
    assert before == content(Samples.from_tensors(**{**GIVEN, "images": GIVEN["images"].clone()}))
    assert content(Samples.from_tensors(**{**GIVEN, **change})) != before


def test_whether_places_are_known_counts():
    none = {"masks": None, "boxes": None}
    assert content(Samples.from_tensors(**{**GIVEN, **none})) != (
        content(Samples.from_tensors(**{**GIVEN, **none, "boxes": [None] * 3}))
    )


class Items:
    """A data set that counts what is loaded."""

    classes = ("x", "y", "z")

    def __init__(self, images=GIVEN["images"], labels=GIVEN["labels"]):
        self.images, self.labels, self.loaded = images, labels, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, position):
        self.loaded.append(position)
        return self.images[position], self.labels[position]


@pytest.mark.parametrize(
    "name", [name for name in CHANGES if name not in {"type of pixels", "class name", "no class names"}]
)
def test_anything_else_in_a_data_set_changes_the_content(name):
    def of(images, labels, class_names, **beside):
        return content(Samples.from_dataset(Items(images, labels), **beside))

    assert of(**GIVEN) == of(**GIVEN) != of(**{**GIVEN, **CHANGES[name]})


def test_items_of_a_data_set_are_loaded_once():
    items = Items()
    samples = Samples.from_dataset(items)
    assert content(samples[1:]) == content(samples[[1, 2]])
    content(samples)
    content(samples)
    assert sorted(items.loaded) == [0, 1, 2]


def test_any_other_loader_is_known_by_loading():
    def of(value, box=None):
        return content(Samples(lambda _: (torch.full((1, 2, 2), value), 0, box, None), ["a"], source="nowhere"))

    assert of(0.5) == of(0.5) != of(0.25)
    assert of(0.5) != of(0.5, (sources.Box(0, 0, 1, 1),))


def test_what_is_written_to_a_tensor_or_an_array_is_seen():
    images, labels, masks = np.zeros((2, 1, 4, 4), np.float32), torch.tensor([0, 1]), [np.zeros((4, 4), bool)] * 2
    boxes = [[0, 0, 1, 1], [0, 0, 2, 2]]
    samples = Samples.from_tensors(images, labels, boxes=boxes, masks=masks)
    of_tensor = Samples.from_tensors(torch.from_numpy(images), labels)
    part, found = samples[1:], [(content(samples), content(of_tensor))]
    alone = content(samples[:1])

    def look():
        found.append((content(samples), content(part)))

    images[1, 0, 3, 3] = 0.5
    look()
    assert content(of_tensor) != found[0][1]
    assert content(samples[:1]) == alone
    labels[1] = 0
    look()
    masks[1] = np.ones((4, 4), bool)
    look()
    boxes[1][3] = 3
    look()
    wholes, parts = zip(*found, strict=True)
    assert len(set(wholes)) == len(set(parts)) == len(found)


def test_boxes_and_masks_beside_a_data_set_are_looked_at_each_time():
    masks = [np.zeros((6, 6), bool)] * 3
    samples = Samples.from_dataset(Items(), masks=masks)
    before = content(samples)
    masks[0] = np.ones((6, 6), bool)
    assert content(samples) != before


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes with two images each, and boxes for them."""
    random = np.random.default_rng(0)
    for number in range(4):
        path = tmp_path / "photos" / "ab"[number // 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    annotated(tmp_path, 3)
    return tmp_path / "photos"


def annotated(folder, width):
    files = ["a/0.png", "a/1.png", "b/2.png", "b/3.png"]
    (folder / "boxes.json").write_text(
        json.dumps(
            {
                "images": [{"id": number, "file_name": name} for number, name in enumerate(files)],
                "annotations": [{"image_id": number, "bbox": [1, 1, width, 3]} for number in range(4)],
            }
        )
    )


def opened(photos, **given):
    return Samples.from_folder(photos, **{"size": 8, "boxes": photos.parent / "boxes.json", **given})


def test_a_folder_opened_twice_has_one_content_and_no_image_is_decoded(photos, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was decoded"))
    before = content(opened(photos))
    assert before == content(opened(photos)) == content(opened(photos, workers=0))
    assert content(opened(photos)[1:3]) == content(opened(photos)[[1, 2]]) != before


def test_files_are_read_once_in_a_process(photos):
    samples = opened(photos)
    before = content(samples)
    reads = sources._hash.cache_info().misses
    assert content(samples) == content(opened(photos)) == before
    assert sources._hash.cache_info().misses == reads


@pytest.mark.parametrize(
    "given",
    [
        {"size": 9}, {"size": (8, 8)}, {"size": None}, {"mode": "L"}, {"boxes": None}, {"classes": ["b", "a"]},
        {"classes": {"a": 0, "b": 2}}, {"limit": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_folder_opened_otherwise_has_another_content(photos, given):
    assert content(opened(photos, **given)) != content(opened(photos))


def test_a_label_counts(photos):
    one, other = (opened(photos, classes={"a": 0, "b": label}) for label in (1, 2))
    assert one.class_names == other.class_names
    assert content(one) != content(other)


def test_a_box_counts(photos):
    before = content(opened(photos))
    annotated(photos.parent, 4)
    assert content(opened(photos)) != before


def test_a_file_in_place_of_another_counts_though_it_is_as_long(photos):
    samples, path = opened(photos), photos / "a" / "1.png"
    before, bytes_before, times = content(samples), path.read_bytes(), path.stat()
    changed = bytearray(bytes_before)
    changed[-20] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert content(samples) != before
    path.write_bytes(bytes_before)
    assert content(samples) == before
    (photos / "new").write_bytes(changed)
    os.utime(photos / "new", ns=(times.st_atime_ns, path.stat().st_mtime_ns))
    (photos / "new").replace(path)  # as old and as long, but another file
    assert content(samples) != before


def test_a_file_under_another_name_or_label_counts(photos):
    before = content(opened(photos))
    (photos / "a" / "1.png").rename(photos / "a" / "1b.png")
    assert content(opened(photos, boxes=None)) != before
    renamed = content(opened(photos, boxes=None))
    (photos / "a" / "1b.png").rename(photos / "b" / "1b.png")
    assert content(opened(photos, boxes=None)) != renamed


def test_a_file_that_is_gone_is_named(photos):
    samples = opened(photos)
    (photos / "b" / "3.png").unlink()
    with pytest.raises(AuditError, match=r"The image .*3\.png cannot be read \(.*No such file.*\); repair it"):
        content(samples)
