"""Not worse than last time: a planted regression is found, an unchanged model is the same, and every error says why."""

import copy
import json
import math

import pytest
import torch

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.baselines import Baselines
from pytest_cnnaudit.baselines.compare import compare
from pytest_cnnaudit.baselines.file import read, update
from pytest_cnnaudit.newcombe import may_be_chance
from pytest_cnnaudit.results import Exhibit, Table

EPS = 20 / 255


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "__cnnaudit__" / "test_audit.json"


@pytest.fixture(scope="module")
def forty(tiny_samples):
    """Each of the eight images five times."""
    return Samples.from_tensors(
        torch.stack([tiny_samples[i % 8].image for i in range(40)]), [tiny_samples[i % 8].label for i in range(40)]
    )


@pytest.fixture
def asks(path, tiny_model, forty):
    def ask(
        model=tiny_model, samples=forty, *, updating=False, accept="cnnaudit accept report --only t.py::a", **options
    ):
        baselines = Baselines(path, "t.py::a", updating=updating, accept=accept)
        return Audit(model, samples, device="cpu", baselines=baselines, link="report/index.html#a", **options)

    return ask


@pytest.fixture
def accepted(asks, path):
    """Measures, and makes it the baseline."""

    def accept(measure, metrics=None, **options):
        audit = asks(updating=True, **options)
        audit.assert_no_regression(measure(audit), metrics=metrics)
        update(path, {"t.py::a": audit.baselines.measured})
        return audit

    return accept


@pytest.fixture(scope="module")
def worse(tiny_model):
    """A model that takes each quadrant for a little of the next: what fools it is 60% of what fools the tiny model."""
    net = copy.deepcopy(tiny_model.module)
    with torch.no_grad():
        net.linear.weight.add_(0.4 * net.linear.weight.roll(-1, 0))
    return AuditModel(net, class_names=tiny_model.class_names, name="worse")


def attack(audit):
    return audit.attack("linf", EPS, attack="pgd", steps=5)


def test_without_a_baseline_it_fails_and_says_how_to_accept(asks, path):
    audit = asks()
    with pytest.raises(AssertionError) as error:
        audit.assert_no_regression(attack(audit))
    assert str(error.value) == (
        "there is no baseline for robust accuracy 0.75 (95% CI 0.60 to 0.86, 30 of 40) in "
        "__cnnaudit__/test_audit.json: look at it in the gallery (report/index.html#a), then accept it: "
        "cnnaudit accept report --only t.py::a, or run with --cnnaudit-update-baselines"
    )
    assert not path.exists()
    kept = audit.baselines.measured["robust accuracy"]
    assert (kept["value"], kept["n"], kept["count"], kept["measurement"]) == (0.75, 40, 30, "attack")
    assert audit.measurements[-1].notes[-1] == "There was no baseline for robust accuracy yet."
    json.dumps(kept, allow_nan=False)


def test_an_unchanged_model_is_the_same(asks, accepted):
    accepted(attack)
    audit = asks()
    measured = attack(audit)
    found = audit.assert_no_regression(measured)
    assert audit.measurements == [found]
    assert type(found) is type(measured)
    assert found.robust_accuracy.baseline == {
        "value": 0.75,
        "display": "0.75",
        "ci95": [0.5981, 0.8581],
        "of": f"the baseline of {audit.baselines.measured['robust accuracy']['measured']}",
        "verdict": "same",
        "test": "exact McNemar test, p = 1",
        "tolerance": 0.0,
        "lost": 0,
        "gained": 0,
    }
    assert isinstance(found.exhibits[0], Table)
    assert found.exhibits[0].rows[0].status == "passed"
    assert found.exhibits[1:] == measured.exhibits
    assert "same (0.75 (30 of 40) then;" in found.notes[-1]


def test_a_regression_fails_with_its_story(asks, accepted, forty, worse):
    accepted(attack)
    audit = asks(worse, seed=3)
    with pytest.raises(AssertionError) as error:
        audit.assert_no_regression(attack(audit), tolerance=0.1)
    lines = str(error.value).splitlines()
    day = audit.baselines.measured["robust accuracy"]["measured"]
    assert lines[0] == (
        "assert robust accuracy 0.50 (95% CI 0.35 to 0.65, 20 of 40) is not worse than the baseline of "
        f"{day}, 0.75 (30 of 40)"
    )
    assert lines[1] == "  worse by 0.25, tolerance 0.1; exact McNemar test, p = 0.00098"
    assert lines[2] == "  lost: 10 samples (02, 03, 10, 11, …); gained: 0"
    assert lines[3] == "  since then: seed 0 → 3"
    assert lines[4].startswith("  attack: pgd, linf, eps 20/255, seed 3")
    assert lines[-2] == "  report/index.html#a"
    assert lines[-1] == (
        "  if this is as it should be, accept it: cnnaudit accept report --only t.py::a, or run with "
        "--cnnaudit-update-baselines"
    )
    found = audit.measurements[-1]
    table, lost = found.exhibits[:2]
    assert table.title == "Since the baseline"
    assert table.rows[0].cells[0] == "robust accuracy"
    assert table.rows[0].cells[-1] == "worse"
    assert table.rows[0].status == "failed"
    assert table.rows[0].cells[3] == "−0.25"
    assert lost.title == "Lost since the baseline"
    assert isinstance(lost, Exhibit)  # with the tiles of the samples
    assert lost.kind == "grid"
    assert [row.title for row in lost.rows] == [forty.ids[i] for i in range(40) if i % 8 in (2, 3)]
    assert found.robust_accuracy.baseline["lost"] == 10


def test_a_drop_within_the_tolerance_passes_and_is_told(asks, accepted, worse):
    accepted(attack)
    audit = asks(worse)
    found = audit.assert_no_regression(attack(audit), tolerance=0.9)
    assert found.robust_accuracy.baseline["verdict"] == "within the tolerance"
    assert found.exhibits[0].rows[0].status == "note"
    back = asks()
    assert "tolerance" not in back.assert_no_regression(attack(back)).exhibits[0].rows[0].cells[4]


def test_an_improvement_is_told_and_is_no_baseline_yet(asks, path, worse):
    weak = asks(worse, updating=True)
    weak.assert_no_regression(attack(weak))
    update(path, {"t.py::a": weak.baselines.measured})
    before = path.read_bytes()
    audit = asks()
    found = audit.assert_no_regression(attack(audit))
    assert found.robust_accuracy.baseline["verdict"] == "better"
    assert ": better (" in found.notes[-1]
    assert path.read_bytes() == before


def test_a_few_damaged_weights_of_a_real_model_are_found_pair_by_pair(
    asks, path, resnet20_model, resnet20, cifar_samples
):
    """91.0% to 88.4% of 500: 22 samples lost, 9 gained. The intervals overlap, and say that it may be chance."""

    def measure(audit):
        return audit.attack("linf", 0.01 / 255, attack="fgsm")

    first = asks(resnet20_model, cifar_samples, updating=True)
    first.assert_no_regression(measure(first), metrics=["clean accuracy"])
    update(path, {"t.py::a": first.baselines.measured})
    with torch.no_grad():
        resnet20.get_parameter("layer1.0.conv2.weight")[:2] = 0
    damaged = AuditModel(resnet20, mean=resnet20_model.mean, std=resnet20_model.std)
    second = asks(damaged, cifar_samples)
    with pytest.raises(
        AssertionError, match=r"(?s)clean accuracy 0\.88.* is not worse.*p = 0\.01.*lost: 22 .*gained: 9"
    ):
        second.assert_no_regression(measure(second), metrics=["clean accuracy"])
    before, now = (each.baselines.measured["clean accuracy"] for each in (first, second))
    assert now["ci95"][0] < before["ci95"][0] < now["ci95"][1]
    assert may_be_chance(before, now)
    assert compare(before, now, 0.03).verdict == "within the tolerance"


def test_another_seed_is_no_regression(asks, path, resnet20_model, cifar_samples):
    """A weak attack from random starts fools other samples each time."""
    few, lost = cifar_samples[:48], 0

    def measure(audit):
        return audit.attack("linf", 1 / 255, attack="pgd", steps=1)

    first = asks(resnet20_model, few, updating=True)
    first.assert_no_regression(measure(first))
    update(path, {"t.py::a": first.baselines.measured})
    for seed in (1, 2, 3):
        audit = asks(resnet20_model, few, seed=seed)
        found = audit.assert_no_regression(measure(audit))
        told = found.robust_accuracy.baseline
        assert told["verdict"] in ("same", "not beyond chance")
        assert f"seed 0 → {seed}" in found.notes[-1]
        lost += told["lost"] + told["gained"]
    assert lost


def test_perturbations_and_their_quantiles_are_compared_by_name(asks, accepted, worse):
    names = ["median perturbation", "5% quantile of the perturbation"]
    accepted(lambda audit: audit.min_perturbation("linf"), names)
    audit = asks(worse)
    with pytest.raises(AssertionError, match=r"median perturbation .* is not worse") as error:
        audit.assert_no_regression(audit.min_perturbation("linf"), metrics=names)
    assert "Wilcoxon signed-rank test, p < 0.0001" in str(error.value)
    found = audit.measurements[-1]
    assert [row.cells[0] for row in found.exhibits[0].rows] == names
    assert found.exhibits[1].title == "Lost since the baseline: median perturbation"
    assert names[1] in [metric.name for metric in found.metrics]  # the report shows it, as it was compared


def test_the_measurement_of_an_assertion_can_be_held_against_it(asks, accepted):
    accepted(attack)
    audit = asks()
    whole = audit.assert_robust("linf", EPS, min_accuracy=0.75, attack="pgd", steps=5)
    assert whole.complete  # the threshold is the figure itself: every sample was needed
    assert audit.assert_no_regression(whole).robust_accuracy.baseline["verdict"] == "same"
    early = audit.assert_robust("linf", EPS, min_accuracy=0.1, attack="pgd", steps=5)
    assert not early.complete
    with pytest.raises(AuditError, match="'attack' stopped as soon as the verdict was certain"):
        audit.assert_no_regression(early)


def test_two_measurements_with_a_metric_of_one_name(asks, accepted):
    def both(audit):
        audit.assert_no_regression(attack(audit))
        return audit.attack("linf", EPS / 4, attack="pgd", steps=5)

    accepted(both)
    audit = asks()
    first = audit.assert_no_regression(attack(audit))
    second = audit.assert_no_regression(audit.attack("linf", EPS / 4, attack="pgd", steps=5))
    assert list(audit.baselines.measured) == ["robust accuracy", "robust accuracy (2)"]
    assert [each.robust_accuracy.baseline["verdict"] for each in (first, second)] == ["same", "same"]
    assert audit.measurements == [first, second]


def test_other_settings_or_samples_are_an_error_that_says_what_differs(asks, accepted, forty, path):
    accepted(attack)

    def error_of(audit, measure=attack):
        with pytest.raises(AuditError) as error:
            audit.assert_no_regression(measure(audit))
        return str(error.value)

    told = error_of(asks(), lambda audit: audit.attack("linf", EPS / 2, attack="pgd", steps=5))
    assert "is of something else: eps 20/255 → 10/255. Measure as then" in told
    assert "__cnnaudit__/test_audit.json" in told
    assert "accept it: cnnaudit accept report --only t.py::a" in told
    assert "something else: 40 → 39 samples." in error_of(asks(samples=forty[:39]))
    images = torch.stack([sample.image for sample in forty])
    labels = [sample.label for sample in forty]
    renamed = Samples.from_tensors(images, labels, ids=[f"img_{i}" for i in range(40)])
    assert "something else: 40 other samples, by their ids." in error_of(asks(samples=renamed))
    images[7, 0, 0, 0] += 0.01
    changed = Samples.from_tensors(images, labels)
    audit = asks(samples=changed)
    assert "something else: the same ids, but other images or labels." in error_of(audit)
    assert audit.measurements[-1].robust_accuracy.baseline is None
    assert "was not compared with the baseline" in audit.measurements[-1].notes[-1]
    assert audit.baselines.measured["robust accuracy"]["samples"]["n"] == 40  # to be accepted


def test_what_lies_elsewhere_is_the_same_samples(asks, accepted, forty, monkeypatch):
    accepted(attack)
    monkeypatch.setattr(forty, "source", "folder /elsewhere/val")
    audit = asks()
    assert audit.assert_no_regression(attack(audit)).robust_accuracy.baseline["verdict"] == "same"


def test_updating_never_fails_but_tells(asks, accepted, worse, path):
    accepted(lambda audit: audit.min_perturbation("linf"))
    audit = asks(worse, updating=True)
    found = audit.assert_no_regression(audit.min_perturbation("linf"))
    assert found.median.baseline["verdict"] == "worse"
    assert "What was measured now takes its place." in found.notes[-1]
    other = asks(updating=True)
    found = other.assert_no_regression(other.min_perturbation("l2"))
    assert found.median.baseline is None
    assert "norm linf → l2. What was measured now takes its place." in found.notes[-1]
    update(path, {"t.py::a": other.baselines.measured})
    assert read(path)["t.py::a"]["median perturbation"]["settings"]["norm"] == "l2"


def test_filters_need_no_samples(asks, accepted, tiny_model):
    accepted(lambda audit: audit.filters(), samples=None)
    audit = asks(samples=None)
    assert audit.assert_no_regression(audit.filters()).roughness.baseline["verdict"] == "same"
    with_samples = asks()
    assert with_samples.assert_no_regression(with_samples.filters()).roughness.baseline["verdict"] == "same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -0.1}, r"tolerance=-0\.1 is not by how much"),
        ({"tolerance": math.nan}, "tolerance=nan"),
        ({"tolerance": math.inf}, "tolerance=inf"),
        ({"metrics": []}, "names nothing to compare"),
        ({"metrics": ["robust acuracy"]}, r"'attack' has no metric 'robust acuracy'; it has 'robust accuracy'"),
    ],
)
def test_bad_arguments_are_told(asks, arguments, message):
    audit = asks()
    with pytest.raises(AuditError, match=message):
        audit.assert_no_regression(attack(audit), **arguments)
    assert audit.baselines.measured == {}


def test_a_metric_without_a_better_direction_cannot_be_worse(asks):
    audit = asks()
    with pytest.raises(
        AuditError, match=r"sparsity cannot be worse.*Name others, metrics=\[\.\.\.\]: 'dead channels'\."
    ):
        audit.assert_no_regression(audit.activations("relu"), metrics=["sparsity"])


def test_it_needs_a_place_for_baselines_and_a_measurement(asks, tiny_model, forty):
    nowhere = Audit(tiny_model, forty, device="cpu")
    with pytest.raises(AuditError, match=r"Audit\(model, samples, baselines=Baselines\(path, test\)\)"):
        nowhere.assert_no_regression(nowhere.filters())
    with pytest.raises(AuditError, match="was given float"):
        asks().assert_no_regression(0.31)


def test_a_damaged_file_is_an_error_and_stays(asks, path):
    path.parent.mkdir()
    path.write_text("<<<<<<< HEAD\n{}")
    for updating in (False, True):
        audit = asks(updating=updating)
        with pytest.raises(AuditError, match=r"merge conflict markers \(line 1\)"):
            audit.assert_no_regression(audit.filters())
    assert path.read_text() == "<<<<<<< HEAD\n{}"
