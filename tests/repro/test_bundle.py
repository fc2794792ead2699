"""A failed audit's bundle: written, read, and the failure shown again with it."""

import hashlib
import json
import re
import shlex

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_cnnaudit import Audit, Samples
from pytest_cnnaudit.repro import ReproError, read_bundle, write_bundle
from pytest_cnnaudit.repro.write import bundle_name

TEST = "tests/test_audit.py::test_holds[v1]"
EPS = 1 / 255


@pytest.fixture
def failed(resnet20_model, cifar_samples):
    """An audit of the ResNet-20 on the first images, after a question on which it fell short."""

    def fail(ask, samples=None):
        audit = Audit(resnet20_model, samples or cifar_samples[:8], device="cpu", seed=7, scope=TEST)
        with pytest.raises(AssertionError):
            ask(audit)
        return audit

    return fail


def fall_short(tiny):
    """Four of eight samples hold."""
    with pytest.raises(AssertionError):
        assert tiny.attack(eps=0.12, attack="fgsm").robust_accuracy >= 0.9


@pytest.fixture
def tiny_bundle(tiny, leave):
    fall_short(tiny)
    return leave(tiny, TEST)[1]


def again(bundle, model, ask):
    """The same question on the samples of a bundle alone, as the plugin asks it."""
    audit = Audit(model, bundle.samples, device="cpu", seed=bundle.seed, scope=bundle.test)
    with pytest.raises(AssertionError):
        ask(audit)
    return audit.measurements[-1]


def adversarial_of(measurement):
    rows = [row for exhibit in measurement.exhibits for row in getattr(exhibit, "rows", ())]
    return {row.title: row.arrays["adversarial"] for row in rows if getattr(row, "arrays", None)}


def robust(audit):
    audit.assert_robust(eps=EPS, attack="pgd", steps=5, min_accuracy=0.9)


def robust_measured_whole(audit):
    assert audit.attack(eps=EPS, attack="pgd", steps=5).robust_accuracy >= 0.9


def far_from_the_boundary(audit):
    audit.assert_min_perturbation(norm="l2", median=9, attack="ddn", steps=8)


def robust_at_the_end_of_the_curve(audit):
    audit._samples = audit.samples[:3]  # it searches long for each
    assert audit.robustness_curve(eps=[EPS / 4, EPS], attack="pgd", steps=5).at(EPS) >= 0.9


def hard_to_turn(audit):
    audit.assert_fooling_needs(None, 3, "l2", at_least=9, attack="ddn", steps=8)


@pytest.mark.parametrize(
    "ask", [robust, robust_measured_whole, far_from_the_boundary, robust_at_the_end_of_the_curve, hard_to_turn]
)
def test_an_attack_succeeds_again_with_the_same_images(ask, failed, leave, resnet20_model):
    audit = failed(ask)
    _, bundle = leave(audit, TEST)
    samples, kept = {sample.id: sample for sample in bundle.samples}, bundle.adversarial
    found = adversarial_of(audit.measurements[-1])
    assert kept and set(kept) <= set(samples)
    assert all(np.array_equal(kept[name], found[name]) for name in kept)  # number by number

    images = torch.from_numpy(np.stack(list(kept.values())))
    with torch.no_grad():
        said = resnet20_model(images).argmax(1).tolist()
    for name, image, prediction in zip(kept, images, said, strict=True):  # they still fool
        assert prediction == 3 if ask is hard_to_turn else prediction != samples[name].label
        if ask in (robust, robust_measured_whole):
            assert float((image - samples[name].image).abs().max()) <= EPS + 1e-6
    for place, change in zip(bundle.arrays["perturbation_of"], bundle.arrays["perturbation"], strict=True):
        name = bundle.samples.ids[place]
        assert np.array_equal(change, kept[name] - samples[name].image.numpy())

    replayed = adversarial_of(again(bundle, resnet20_model, ask))
    assert set(replayed) & set(kept)
    for name in set(replayed) & set(kept):  # other batches may round otherwise; on this network none did
        np.testing.assert_allclose(replayed[name], kept[name], atol=1e-6, rtol=0)


def test_a_saliency_misses_again_what_it_missed(failed, leave, resnet20_model, cifar_samples):
    corner = [(0, 0, 16, 16)] * 24  # of each image: often not where the object is
    few = cifar_samples[:24]
    images, labels = (torch.stack([each.image for each in few]), [each.label for each in few])
    boxed = Samples.from_tensors(images, labels, boxes=corner, ids=few.ids)

    def looks(audit):
        audit.assert_saliency_localized(method="gradient", metric="pointing_game", min_score=0.95)

    audit = failed(looks, boxed)
    _, bundle = leave(audit, TEST)
    missed = dict(zip(audit.measurements[-1].ids, audit.measurements[-1].per_sample["hit"], strict=True))
    assert len(bundle.samples) and not any(missed[name] for name in bundle.samples.ids)
    assert not bundle.adversarial
    assert not again(bundle, resnet20_model, looks).per_sample["hit"].any()


def test_filters_need_no_samples_and_the_command_is_all(failed, leave):
    told, bundle = leave(failed(lambda audit: audit.assert_filters_smooth(max_roughness=0.01)), TEST)
    assert bundle.samples is None and not bundle.arrays
    assert not (bundle.folder / "samples.npz").exists()
    assert told["command"] == shlex.join(["pytest", TEST, "--cnnaudit-replay", told["bundle"]])


def test_what_a_bundle_says(tiny, leave):
    fall_short(tiny)
    told, bundle = leave(tiny, TEST)
    assert told == {
        "command": f"pytest '{TEST}' --cnnaudit-replay report/repro/test_holds-v1-12b6fdb9",
        "bundle": "report/repro/test_holds-v1-12b6fdb9",
        "trouble": "",
    }
    facts = json.loads((bundle.folder / "bundle.json").read_text())
    assert facts["failed"] == [{"metric": "robust accuracy", "display": "0.50", "op": ">=", "threshold": 0.9}]
    assert facts["measurement"]["kind"] == "attack" and facts["measurement"]["settings"]["eps"] == "30.6/255"
    assert (facts["samples"]["n"], facts["samples"]["source"]) == (8, "tensors (8 images)")
    assert facts["samples"]["worst"][0] == {
        "id": "0",
        "label": 0,
        "class": "top left",
        "boxes": [[0, 0, 8, 8]],
        "status": "fooled",
        "figures": {"label": "top left", "‖δ‖": "30.6/255", "by": "fgsm"},
    }
    readme = (bundle.folder / "README.txt").read_text()
    assert told["command"] in readme and "robust accuracy 0.50 should be >= 0.90" in readme


def test_the_samples_are_as_they_were_and_remember_where_they_are_from(tiny_bundle, tiny_samples):
    found = tiny_bundle.samples
    assert found.ids == ("0", "1", "2", "3")  # those with the least contrast fall
    assert found.source == "the 4 worst samples of tensors (8 images)" and found.located
    for sample in found:
        before = tiny_samples[int(sample.id)]
        assert torch.equal(sample.image, before.image)
        assert (sample.label, sample.boxes) == (before.label, before.boxes)


def test_a_test_that_failed_before_it_measured_leaves_nothing(tiny, tmp_path):
    assert write_bundle(tmp_path / "repro", tiny, test=TEST, command=["pytest"], relative_to=tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_next_failure_of_a_test_takes_the_place_of_the_last(tiny, tiny_bundle, leave):
    assert (tiny_bundle.folder / "samples.npz").exists()
    with pytest.raises(AssertionError):
        tiny.assert_filters_smooth(max_roughness=-1)
    _, bundle = leave(tiny, TEST)
    assert bundle.folder == tiny_bundle.folder and bundle.samples is None
    assert sorted(path.name for path in bundle.folder.iterdir()) == ["README.txt", "bundle.json"]


def test_the_same_failure_leaves_the_same_files(tiny, leave):
    fall_short(tiny)
    first = {path.name: path.read_bytes() for path in leave(tiny, TEST)[1].folder.iterdir()}
    assert {path.name: path.read_bytes() for path in leave(tiny, TEST)[1].folder.iterdir()} == first


# Names -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=200) | st.text("ab/[]:- ", max_size=8), unique=True, max_size=20))
def test_every_test_has_a_bundle_of_its_own_under_a_safe_name(tests):
    names = [bundle_name(f"tests/test_a.py::test_x[{test}]") for test in tests]
    assert len({name.lower() for name in names}) == len(tests)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in names)


@pytest.mark.parametrize("test", ["a::t[é/../\ud800\n'\"]", "a::" + "x" * 3000, "::[]", "C:\\a b::t[..]"])
def test_any_test_can_leave_a_bundle_and_be_named(test, tiny, leave):
    tiny.attack(eps=0.12, attack="fgsm")
    told, bundle = leave(tiny, test)
    bundle.check(test, 0)
    assert shlex.split(told["command"])[1] == test == bundle.test


def test_tests_with_like_names_leave_a_bundle_each(tiny, leave):
    tiny.attack(eps=0.12, attack="fgsm")
    tests = ["t.py::test_x[a/b]", "t.py::test_x[a-b]", "u.py::test_x[a-b]"]
    bundles = [leave(tiny, test)[1] for test in tests]
    assert [read_bundle(bundle.folder).test for bundle in bundles] == tests


# What goes wrong -------------------------------------------------------------------------------------------------


def test_a_disk_that_takes_no_more_ends_no_run(tiny, tmp_path):
    tiny.attack(eps=0.12, attack="fgsm")
    (tmp_path / "repro").write_text("a file, where the folder should be")
    told = write_bundle(tmp_path / "repro", tiny, test=TEST, command=["pytest", TEST], relative_to=tmp_path)
    assert told["bundle"] == "" and told["command"] == f"pytest '{TEST}'"  # which shows it as well, on all samples
    assert re.match(r"repro/test_holds-v1-12b6fdb9 could not be written: .*", told["trouble"])


def test_an_image_that_is_gone_ends_no_run(tiny_model, tmp_path):
    left = [torch.rand(3, 16, 16) for _ in range(4)]

    class Data:
        def __len__(self):
            return 4

        def __getitem__(self, at):
            if left[at] is None:
                raise OSError(f"image {at} is gone")
            return left[at], 0

    audit = Audit(tiny_model, Samples.from_dataset(Data()), device="cpu")
    audit.attack(eps=0.1, attack="fgsm")
    left[:] = [None] * 4
    told = write_bundle(tmp_path / "repro", audit, test=TEST, command=["pytest"], relative_to=tmp_path)
    assert "is gone" in told["trouble"]
    assert not (tmp_path / told["bundle"] / "bundle.json").exists()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def edit(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "cut json": ("bundle.json", lambda path: path.write_bytes(path.read_bytes()[:-40])),
    "empty json": ("bundle.json", lambda path: path.write_bytes(b"")),
    "no object": ("bundle.json", lambda path: path.write_text("[1]")),
    "bytes": ("bundle.json", lambda path: path.write_bytes(b"\xff\x00")),
    "no seed": ("bundle.json", edit(seed=None)),
    "samples of another kind": ("bundle.json", edit(samples={"worst": 3})),
    "no samples": ("bundle.json", edit(samples=None)),
    "cut npz": ("samples.npz", lambda path: path.write_bytes(path.read_bytes()[:-40])),
    "one bit": ("samples.npz", flip),
    "another npz": ("samples.npz", lambda path: np.savez(path, images=np.zeros((1, 3, 4, 4)), labels=np.zeros(1))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_one_clear_sentence(damage, tiny_bundle):
    name, break_it = DAMAGES[damage]
    break_it(tiny_bundle.folder / name)
    with pytest.raises(ReproError, match=r"^The bundle .* is damaged \(.*: let the test fail again .*\.$"):
        read_bundle(tiny_bundle.folder)


def test_an_array_of_objects_is_never_unpickled(tiny_bundle):
    path = tiny_bundle.folder / "samples.npz"
    np.savez(path, images=np.array([{}], dtype=object), labels=np.zeros(1))
    edit(arrays=hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest())(tiny_bundle.folder / "bundle.json")
    with pytest.raises(ReproError, match=r"damaged .*allow_pickle=False"):
        read_bundle(tiny_bundle.folder)


@pytest.mark.parametrize("missing", ["bundle.json", "samples.npz"])
def test_a_bundle_with_a_file_missing_says_which(missing, tiny_bundle):
    (tiny_bundle.folder / missing).unlink()
    with pytest.raises(ReproError, match=f"no bundle in .*{missing} is missing.*--cnnaudit-repro"):
        read_bundle(tiny_bundle.folder)


def test_a_folder_that_is_none_is_no_bundle(tmp_path):
    with pytest.raises(ReproError, match="There is no bundle in "):
        read_bundle(tmp_path / "nowhere")


def test_a_bundle_of_another_version_says_so(tiny_bundle):
    edit(schema=2)(tiny_bundle.folder / "bundle.json")
    with pytest.raises(ReproError, match="has schema 2, and this pytest-cnnaudit reads schema 1"):
        read_bundle(tiny_bundle.folder)


def test_a_bundle_is_of_one_test_and_one_seed(tiny_bundle):
    tiny_bundle.check(TEST, 0)
    with pytest.raises(ReproError, match=re.escape(f"is of {TEST}, not of other")):
        tiny_bundle.check("other", 0)
    with pytest.raises(ReproError, match="with seed 0, not 1: use --cnnaudit-seed 0"):
        tiny_bundle.check(TEST, 1)


def test_a_bundle_may_be_named_by_its_file(tiny_bundle):
    assert read_bundle(tiny_bundle.folder / "bundle.json").test == TEST
