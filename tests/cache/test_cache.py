"""What is measured once is known: as a whole, and batch by batch where a run was cut short."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pytest_cnnaudit import Audit, AuditModel, Samples
from pytest_cnnaudit.cache import Cache
from pytest_cnnaudit.cache import cache as module
from pytest_cnnaudit.engine import Engine, Part
from pytest_cnnaudit.results import Cost, Measurement

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self, noise=0.0):
        super().__init__()
        self.linear, self.noise = nn.Linear(3 * 8 * 8, 4), noise

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return logits + self.noise * torch.rand_like(logits) if self.noise else logits


def network(**settings):
    torch.manual_seed(0)
    return AuditModel(Net(**settings))


@pytest.fixture(scope="module")
def samples():
    return Samples.from_tensors(
        torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 4
    )


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


class Cut(Exception):
    """A run ends here."""


def measure_right(model, samples, engine, *, cut_after=()):
    """A measurement that is cut short at the batch whose number is in `cut_after`, once."""
    seen = []

    with model.borrow(engine.device, seed=engine.draw_seed()) as borrowed:

        def step(batch):
            if cut_after and len(seen) == cut_after[0]:
                cut_after.pop()
                raise Cut
            seen.append(len(batch))
            return Part(batch.positions, {"right": (borrowed(batch.images).argmax(1) == batch.labels).numpy()})

        found = engine.measure(samples, step, title="right")
        cost = borrowed.cost
    return Measurement(
        kind="right", title="Right", settings={"steps": str(seen)}, per_sample=found.columns, cost=cost,
        ids=samples.ids,
    )  # fmt: skip


@pytest.fixture
def run(cache, samples, monkeypatch):
    """Measures in batches of 3, and returns what was found and which batches were measured."""

    def run(model, cut_after=None, batch_size=3, kept=cache):
        cut = [] if cut_after is None else [cut_after]

        def measure(model, samples, engine):
            return measure_right(model, samples, engine, cut_after=cut)

        measure.__qualname__ = "measure"  # one measurement, whatever is cut
        found = kept.measured(measure, model, samples, Engine(CPU, batch_size))
        return found, found.settings["steps"]

    return run


def files(cache, kind):
    return sorted(path.name for path in cache.store.folder.rglob(f"{kind}-*"))


def test_what_is_known_is_not_measured_again(run):
    first, steps = run(network())
    assert first.cached is None
    assert steps == "[3, 3, 3, 3]"
    again, _ = run(network())
    assert again.cached.batches is None
    assert replace(again, cached=None).cost == first.cost == Cost(12, 0)
    np.testing.assert_array_equal(again.per_sample["right"], first.per_sample["right"])


def test_a_run_that_was_cut_short_goes_on_where_it_stopped(run, cache):
    with pytest.raises(Cut):
        run(network(), cut_after=2)
    assert len(files(cache, "batch")) == 2
    found, steps = run(network())
    assert steps == "[3, 3]"
    assert found.cached.batches == 2
    assert found.cost == Cost(12, 0)
    expected, _ = run(network(), kept=Cache(cache.store.folder.parent / "other"))
    np.testing.assert_array_equal(found.per_sample["right"], expected.per_sample["right"])
    assert files(cache, "batch") == []  # the whole is there


def test_batches_of_another_size_or_model_are_not_taken(run, cache):
    with pytest.raises(Cut):
        run(network(), cut_after=2)
    other = network()
    other.module.linear.weight.data[0, 0] += 1
    for model, size, steps in [(other, 3, "[3, 3, 3, 3]"), (network(), 4, "[4, 4, 4]")]:
        found, measured = run(model, batch_size=size)
        assert measured == steps
        assert found.cached is None
    found, _ = run(network())
    assert found.cached.batches == 2


def test_what_draws_from_the_global_generators_is_not_kept_by_batches(run, cache):
    """Its noise depends on the batches before: without them it would be another."""
    with pytest.raises(Cut):
        run(network(noise=0.5), cut_after=2)
    assert files(cache, "batch") == []
    found, steps = run(network(noise=0.5))
    assert steps == "[3, 3, 3, 3]"
    again, _ = run(network(noise=0.5))
    assert again.cached is not None
    np.testing.assert_array_equal(found.per_sample["right"], again.per_sample["right"])


def test_a_model_that_answers_otherwise_is_another_although_weights_and_structure_are_the_same(run, cache):
    class Twice(Net):
        def forward(self, images):
            return -super().forward(images)

    Twice.__qualname__, Twice.__module__ = Net.__qualname__, Net.__module__  # as if its code had been edited

    def twice():
        torch.manual_seed(0)
        return AuditModel(Twice(), name="Net")

    first, _ = run(network())
    other, _ = run(twice())
    assert other.cached is None
    assert other.per_sample["right"].tolist() != first.per_sample["right"].tolist()
    for model, expected in [(network(), first), (twice(), other)]:
        found, _ = run(model)
        assert found.cached is not None
        np.testing.assert_array_equal(found.per_sample["right"], expected.per_sample["right"])


def test_answers_that_differ_by_rounding_are_the_same_model(run, monkeypatch):
    run(network())
    found = module.key
    monkeypatch.setattr(module, "key", lambda *given: replace(made := found(*given), outputs=made.outputs * (1 + 1e-6)))
    assert run(network())[0].cached is not None


def test_memory_that_runs_out_is_met_again_and_the_halves_are_known(cache, samples):
    sizes, cut = [], []

    def measure(model, samples, engine):
        def step(batch):
            sizes.append(len(batch))
            if len(batch) > 3:
                raise torch.OutOfMemoryError
            if cut and sizes.count(3) == 2:
                raise Cut
            return Part(batch.positions, {"n": np.zeros(len(batch))})

        with model.borrow(engine.device):
            found = engine.measure(samples, step, title="x")
        return Measurement(kind="x", title="x", settings={}, per_sample=found.columns)

    cut.append(True)
    with pytest.raises(Cut):
        cache.measured(measure, network(), samples, Engine(CPU, 6))
    assert sizes == [6, 3, 3]
    del sizes[:], cut[:]
    found = cache.measured(measure, network(), samples, Engine(CPU, 6))
    assert sizes == [6, 3, 3, 3]
    assert found.cached.batches == 1
    assert len(found.per_sample["n"]) == 12


def test_a_result_or_a_batch_that_holds_more_than_data_is_measured_each_time(cache, samples):
    def measure(model, samples, engine):
        def step(batch):
            return Part(batch.positions, {"f": np.array([print] * len(batch))})

        with model.borrow(engine.device):
            found = engine.measure(samples, step, title="x")
        return Measurement(kind="x", title="x", settings={}, per_sample=found.columns)

    for _ in range(2):
        assert cache.measured(measure, network(), samples, Engine(CPU, 6)).cached is None
    assert files(cache, "batch") == files(cache, "result") == []


def test_what_a_user_does_with_a_measurement_does_not_reach_the_cache(run):
    first, _ = run(network())
    expected = first.per_sample["right"].copy()
    first.per_sample["right"][:] = True
    again, _ = run(network())
    np.testing.assert_array_equal(again.per_sample["right"], expected)
    again.per_sample["right"][:] = True
    np.testing.assert_array_equal(run(network())[0].per_sample["right"], expected)


def test_a_metric_comes_back_before_anything_was_asked_of_it(cache, samples):
    def measured():
        audit = Audit(network(), samples, device="cpu", cache=cache, link="page")
        return audit.attack(eps=0.05, attack="fgsm")

    assert measured().robust_accuracy >= 0
    again = measured()
    assert again.cached is not None
    assert again.robust_accuracy.comparisons == []
    assert again.robust_accuracy.link == "page"


def test_without_a_cache_and_with_one_an_audit_finds_the_same(cache, samples):
    def found(**given):
        audit = Audit(network(), samples, device="cpu", **given)
        return audit.attack(eps=0.05, attack="pgd", steps=3)

    plain, kept, known = found(), found(cache=cache), found(cache=cache)
    assert (plain.cached, kept.cached) == (None, None)
    assert known.cached is not None
    for name, values in plain.per_sample.items():
        np.testing.assert_array_equal(values, kept.per_sample[name])
        np.testing.assert_array_equal(values, known.per_sample[name])
    assert repr(plain) == repr(kept) == repr(known)
    assert plain.cost == kept.cost == known.cost


def test_an_argument_that_does_not_fit_is_told_as_without_a_cache(cache, samples):
    for given in ({}, {"cache": cache}):
        with pytest.raises(Exception, match="norm"):
            Audit(network(), samples, device="cpu", **given).attack("l7", eps=0.1)
