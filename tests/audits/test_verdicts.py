"""Verdicts on some of the samples are those on all of them, and no sample is attacked that they do not take."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_cnnaudit import Audit, AuditError, AuditModel, Samples
from pytest_cnnaudit.audits import verdicts
from pytest_cnnaudit.engine import Engine
from pytest_cnnaudit.sequential import sequential_verdict
from pytest_cnnaudit.statistics import is_decided, proportion_interval

NAMES = ("first", "second", "third")


class TwoPixels(nn.Module):
    """The first pixel says how sure it is that the class is 0, the second turns it over."""

    def forward(self, images):
        sure, turned = images[:, 0, 0, 0], images[:, 0, 0, 1]
        return torch.stack([1 + sure, 5 * turned], 1)


class Case:
    """Samples of which it is given which fall to which attack, and which are wrong to begin with.

    Args:
        falls: for each sample the number of the attack that fools it, −1 where none does, None where it is wrong.
        sureness: for each sample a whole number that is its own; the larger, the larger its margin.
    """

    def __init__(self, falls, sureness=None):
        self.falls, self.n = falls, len(falls)
        self.code = np.arange(self.n) if sureness is None else np.array(sureness)
        images = torch.zeros(self.n, 1, 1, 2)
        images[:, 0, 0, 0] = torch.tensor(self.code) / self.n
        self.samples = Samples.from_tensors(
            images, [int(fall is None) for fall in falls], ids=[f"sample {each}" for each in range(self.n)]
        )
        self.robust = np.array([fall == -1 for fall in falls])
        self.calls = []

    def who(self, images):
        place = {code: number for number, code in enumerate(self.code.tolist())}
        return [place[round(float(value) * self.n)] for value in images[:, 0, 0, 0]]

    def attack(self, number):
        """It takes all it gets in one call, and knows whom it can fool."""

        def attack(model, images, labels, at_once):
            met = self.who(images)
            self.calls.append((number, met))
            found = images.clone()
            found[:, 0, 0, 1] = torch.tensor([float(self.falls[each] == number) for each in met])
            return found

        attack.__name__ = NAMES[number]
        return attack

    def met(self, number):
        return [each for attack, who in self.calls if attack == number for each in who]

    def audit(self, **options):
        return Audit(AuditModel(TwoPixels()), self.samples, device="cpu", **options)

    def judged(self, at_least, attacks, *, confidence=None, **options):
        """Whether the assertion passes, and its measurement."""
        self.calls.clear()
        audit = self.audit(**options)
        cascade = [self.attack(number) for number in range(attacks)]
        try:
            audit.assert_robust(eps=1.0, min_accuracy=at_least, attack=cascade, confidence=confidence)
            passed = True
        except AssertionError as error:
            assert not isinstance(error, AuditError)
            passed = False
        (found,) = audit.measurements
        return passed, found


@st.composite
def cases(draw, attacks):
    n = draw(st.integers(1, 14))
    falls = draw(st.lists(st.sampled_from([None, -1, -1, -1, *range(attacks)]), min_size=n, max_size=n))
    return Case(falls, draw(st.permutations(range(n))))


thresholds = st.one_of(
    st.floats(0, 1), st.builds(lambda k, n: min(k, n) / n, st.integers(0, 14), st.integers(1, 14))
).flatmap(lambda x: st.sampled_from([x, min(1.0, math.nextafter(x, 2)), max(0.0, math.nextafter(x, -1))]))

judgements = st.integers(1, 3).flatmap(lambda attacks: st.tuples(st.just(attacks), cases(attacks)))


@settings(max_examples=120)
@given(judgement=judgements, at_least=thresholds, batch_size=st.integers(1, 5))
def test_the_verdict_is_the_one_on_all_samples_and_all_attacks(judgement, at_least, batch_size):
    attacks, case = judgement
    passed, found = case.judged(at_least, attacks, batch_size=batch_size)
    assert passed == (case.robust.sum() / case.n >= at_least)

    # The figures are those of what was found, never better than the truth where the assertion passes.
    held = found.per_sample["robust"] & found.per_sample["settled"]
    accuracy = found.robust_accuracy
    assert accuracy.ci95[0] <= accuracy <= accuracy.ci95[1]
    if passed:
        assert (accuracy.count, accuracy.n) == (held.sum(), case.n)
        assert accuracy <= case.robust.mean()
        assert accuracy.ci95[1] >= proportion_interval(int(case.robust.sum()), case.n)[1] - 1e-12
    else:
        assert (accuracy.count, accuracy.n) == (found.per_sample["robust"].sum(), len(found.ids))
    if held.sum() + (~found.per_sample["robust"]).sum() == case.n:
        assert (accuracy.count, accuracy.n) == (case.robust.sum(), case.n)

    # Each row belongs to its id, in the order of the samples.
    numbers = [int(name.split()[1]) for name in found.ids]
    assert numbers == sorted(numbers)
    row = found.per_sample
    sureness = torch.sigmoid(1 + torch.tensor(case.code[numbers]) / case.n)
    np.testing.assert_allclose(row["clean_confidence"], sureness, rtol=1e-5)
    for place, number in enumerate(numbers):
        fall, settled = case.falls[number], row["settled"][place]
        assert row["correct"][place] == (fall is not None)
        assert row["label"][place] == (fall is None)
        if settled:
            assert row["robust"][place] == (fall == -1)
            assert row["broken_by"][place] == (-1 if fall is None else fall)
        else:
            assert row["robust"][place]
            assert fall != 0
            assert number not in case.met(1)


@settings(max_examples=120)
@given(judgement=judgements, at_least=thresholds, batch_size=st.integers(1, 5))
def test_no_call_attacks_more_samples_than_a_verdict_takes_in_any_case(judgement, at_least, batch_size):
    attacks, case = judgement
    case.judged(at_least, attacks, batch_size=batch_size)
    needed = next(count for count in range(case.n + 1) if count / case.n >= at_least)
    for number in range(attacks):
        assert len(set(case.met(number))) == len(case.met(number))
    # What is known before each call. Those who are wrong by themselves show as soon as they are met, without an attack:
    # in the order of the samples, up to the last one that the first attack has met.
    last, seen = attacks - 1, -1
    held, fooled = set(), set()
    for number, met in case.calls:
        if number == 0:
            fooled |= {each for each in range(seen + 1, max(met) + 1) if case.falls[each] is None}
            seen = max(met)
        to_pass, to_fail = needed - len(held), case.n - needed + 1 - len(fooled - set(met))
        if number == 0 and seen:
            assert to_fail > 0
            assert len(met) <= (min(to_pass, to_fail) if attacks == 1 else to_fail)
        elif number:
            assert len(met) <= min(to_pass, to_fail)
        fooled |= {each for each in met if case.falls[each] == number}
        if number == last:
            held |= {each for each in met if case.falls[each] == -1}


@given(judgement=judgements, at_least=thresholds)
def test_the_surest_are_taken_first(judgement, at_least):
    attacks, case = judgement
    case.judged(at_least, attacks)
    assert case.met(0) == sorted(case.met(0))  # nothing is known yet
    if attacks == 2:
        together = [[case.code[each] for each in met] for number, met in case.calls if number == 1]
        assert all(min(sooner) > max(later) for sooner, later in itertools.pairwise(together))
        spared = {each for each in case.met(0) if case.falls[each] != 0} - set(case.met(1))
        least = min(itertools.chain(*together), default=case.n)
        assert all(case.code[each] < least for each in spared)


def test_an_easy_pass_spares_the_others_the_expensive_attacks():
    case = Case([-1] * 20)
    passed, found = case.judged(0.5, 3)
    assert passed
    assert [len(case.met(number)) for number in range(3)] == [20, 10, 10]
    assert found.per_sample["settled"].sum() == 10
    assert (found.robust_accuracy.count, found.robust_accuracy.n) == (10, 20)
    assert found.robust_accuracy.ci95[1] == 1  # the ten others may hold, too
    rows = [row.cells for row in found.exhibits[-2].rows]
    assert rows[-2:] == [("nothing", "10", "0.50"), ("nothing yet: spared, as the verdict was certain", "10", "0.50")]
    assert sum(int(count) for _, count, _ in rows) == 20
    assert (
        "stopped as soon as the verdict was certain: after 20 of 20 samples, 10 held and 0 did not; 10 more stood when "
        "they were spared the other attacks. The figure counts only what held, of all 20"
    ) in found.robust_accuracy.story


def test_a_clear_failure_takes_one_attack_on_few_samples():
    case = Case([0] * 20)
    passed, found = case.judged(0.8, 3)
    assert not passed
    assert [len(case.met(number)) for number in range(3)] == [5, 0, 0]
    assert (found.robust_accuracy.count, found.robust_accuracy.n) == (0, 5)


def test_a_plain_measurement_meets_everything():
    case = Case([None, 0, 1, -1])
    found = case.audit().attack(eps=1.0, attack=[case.attack(0), case.attack(1)])
    assert found.per_sample["settled"].all()
    assert (case.met(0), case.met(1)) == ([1, 2, 3], [2, 3])
    assert found.per_sample["broken_by"].tolist() == [-1, 0, 1, -1]


def test_the_pictures_are_of_samples_that_were_met_and_the_attack_has_its_name():
    case = Case([1, 1, 0, None, -1, -1, -1, -1])
    passed, found = case.judged(0.5, 2)
    assert passed
    fooled = {row.title: row.figures["by"] for row in found.exhibits[0].rows}
    assert fooled == {found.ids[2]: "first"}  # the surest hold, so the second attack needs to meet no more
    passed, found = case.judged(0.6, 2)
    assert not passed
    fooled = {row.title: row.figures["by"] for row in found.exhibits[0].rows}
    assert fooled.items() >= {"sample 2": "first", "sample 1": "second"}.items()


# With confidence -----------------------------------------------------------------------------------------------------


def shuffled(held, n, seed=0):
    return Case(np.random.default_rng(seed).permutation([-1] * held + [0] * (n - held)).tolist())


@pytest.mark.parametrize(("held", "at_least"), [(400, 0.6), (300, 0.4), (20, 0.4), (200, 0.8), (0, 0.05)])
def test_a_clear_case_is_decided_early(held, at_least):
    case = shuffled(held, 400)
    passed, found = case.judged(at_least, 1, confidence=0.95)
    share = held / 400
    assert passed == (share >= at_least)
    assert 8 <= len(found.ids) < 200
    assert len(case.met(0)) == len(found.ids) == found.robust_accuracy.n
    low, high = found.robust_accuracy.ci95
    assert 0 <= low <= share <= high <= 1
    assert found.robust_accuracy.count == found.per_sample["robust"].sum()
    assert low > at_least or high < at_least
    (note,) = (note for note in found.notes if "Stopped after" in note)
    assert f"Stopped after {len(found.ids)} of 400 samples in random order: with 95% confidence" in note
    assert found.settings["confidence"] == "0.95"


def test_where_it_stops_follows_from_the_seed_alone():
    case = shuffled(300, 400)

    def ids(**options):
        return case.judged(0.5, 1, confidence=0.95, **options)[1].ids

    assert ids() == ids() == ids(batch_size=1) == ids(batch_size=100) == ids(batch_size=400)
    assert ids() != ids(seed=1)
    assert ids() != ids(scope="another test")


@settings(max_examples=40)
@given(judgement=judgements, at_least=thresholds, seed=st.integers(0, 9), batch_size=st.integers(1, 5))
def test_few_samples_get_the_exact_verdict(judgement, at_least, seed, batch_size):
    """What eight samples can tell with a confidence of 0.9999 is only what is certain."""
    attacks, case = judgement
    passed, found = case.judged(at_least, attacks, confidence=1 - 1e-12, seed=seed, batch_size=batch_size)
    assert passed == (case.robust.sum() / case.n >= at_least)
    assert (~found.per_sample["settled"]).sum() == 0
    truth = case.robust[[int(name.split()[1]) for name in found.ids]]
    np.testing.assert_array_equal(found.per_sample["robust"], truth)
    assert (found.robust_accuracy.count, found.robust_accuracy.n) == (truth.sum(), len(truth))
    if len(truth) == case.n:
        assert tuple(map(float, found.robust_accuracy.ci95)) == proportion_interval(int(truth.sum()), case.n)


def test_on_the_threshold_all_samples_are_asked():
    case = shuffled(100, 200)
    for at_least, verdict in ((0.5, True), (0.505, False)):
        passed, found = case.judged(at_least, 1, confidence=0.999)
        assert passed == verdict
        assert len(found.ids) > 150  # all that can change the verdict
        assert found.robust_accuracy == pytest.approx(0.5, abs=0.05)


def in_the_order_asked(held):
    """The case whose samples hold or fall so in the order in which they are drawn, where a confidence is given."""
    drawn = np.random.default_rng(Engine(torch.device("cpu")).draw_seed()).permutation(len(held))
    falls = np.empty(len(held), dtype=int)
    falls[drawn] = np.where(held, -1, 0)
    return Case(falls.tolist())


@settings(max_examples=50)
@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=5),
    at_least=thresholds,
    confidence=st.sampled_from([0.2, 0.5, 0.8, 0.95]),
)
@example(runs=[(True, 5), (False, 91)], at_least=0.5, confidence=0.8)
@example(runs=[(False, 5), (True, 91)], at_least=0.6, confidence=0.8)
def test_verdict_figure_and_story_never_contradict_each_other(runs, at_least, confidence):
    """Also not where a run of luck in the beginning decides, and what comes after it does not look so."""
    values = np.array([holds for holds, times in runs for _ in range(times)])
    case = in_the_order_asked(values)
    passed, found = case.judged(at_least, 1, confidence=confidence)
    accuracy = found.robust_accuracy
    assert passed == (accuracy.count / accuracy.n >= at_least)
    said = [line for line in accuracy.story if "confidence" in line]
    assert bool(said) == (len(found.ids) < case.n)
    done = len(found.ids)
    assert (accuracy.count, accuracy.n) == (values[:done].sum(), done)
    if not is_decided(values[:done].sum(), done, case.n, at_least):
        assert sequential_verdict(values[:done], at_least, confidence) == ("above" if passed else "below")


def test_wrong_verdicts_are_as_rare_as_was_asked_for():
    """Of 40 populations whose robust accuracy is 0.05 off the threshold, at most a few get the wrong verdict."""
    wrong = early = 0
    for seed in range(40):
        case = shuffled(130 if seed % 2 else 110, 200, seed)
        passed, found = case.judged(0.6, 1, confidence=0.9, seed=seed)
        wrong += passed != bool(seed % 2)
        early += len(found.ids) < 200
    assert wrong <= 4
    assert early >= 7


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 1.5, 95, math.nan])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(AuditError, match=r"is not a probability between 0 and 1; 0.95 is usual"):
        Case([-1, 0]).judged(0.5, 1, confidence=confidence)


def test_after_an_early_pass_every_figure_counts_what_was_spared_as_fooled():
    case = Case([-1] * 20)
    passed, found = case.judged(0.5, 3)
    assert passed
    assert not found.complete
    held = found.per_sample["robust"] & found.per_sample["settled"]
    assert found.robust_accuracy.count == held.sum() == 10
    assert [(metric.count, metric.n) for metric in found.per_class.values()] == [(10, 20)]
    assert (found.attack_success_rate.count, found.attack_success_rate.n) == (10, 20)
    assert "weakest class: class 0 0.50" in found.robust_accuracy.story[1]
    for metric in (found.robust_accuracy, found.attack_success_rate, *found.per_class.values()):
        assert metric.help.endswith("What the early verdict spared counts as fooled.")
    (rows,) = [exhibit for exhibit in found.exhibits if exhibit.title == "Held out"]
    assert len(rows.rows) == 4
    assert {row.title for row in rows.rows} <= {found.ids[each] for each in np.flatnonzero(held)}


def alike(model, images, labels):
    """Makes all samples equally sure."""
    return torch.zeros_like(images)


@pytest.mark.parametrize("batch_size", [1, 2, 12])
def test_of_equally_sure_samples_the_earlier_ones_are_shown(batch_size):
    case = Case([-1] * 12, range(12))  # the last one is the surest, and so the first that is taken
    found = case.audit(batch_size=batch_size).assert_robust(eps=1.0, min_accuracy=0.5, attack=[case.attack(0), alike])
    settled = np.flatnonzero(found.per_sample["settled"])
    assert settled.tolist() == [6, 7, 8, 9, 10, 11]
    assert [row.title for row in found.exhibits[0].rows] == [found.ids[each] for each in settled[:4]]


@pytest.mark.parametrize("seed", range(3))
def test_of_equally_sure_samples_in_random_order_the_earlier_ones_are_shown(seed):
    found = (
        Case([-1] * 12).audit(seed=seed).assert_robust(eps=1.0, min_accuracy=1.0, attack=alike, confidence=1 - 1e-12)
    )
    assert [row.title for row in found.exhibits[0].rows] == list(found.ids[:4]) == [f"sample {i}" for i in range(4)]


def test_a_measurement_that_went_to_the_end_says_so():
    case = Case([-1, 0, None, 1])
    to_the_end = case.audit().attack(eps=1.0, attack=[case.attack(0), case.attack(1)])
    assert to_the_end.complete
    assert "spared" not in to_the_end.robust_accuracy.help
    assert case.judged(0.25, 2)[1].complete == (len(case.met(1)) == 2)
    assert not case.judged(0.9, 2)[1].complete


@pytest.mark.parametrize("at_least", [0.1, 0.4, 0.5, 0.6, 0.9])
def test_where_passes_of_few_cost_as_much_as_passes_of_many_more_are_attacked_at_a_time(monkeypatch, at_least):
    case = Case([(-1, 0, 1, None)[each % 4] for each in range(40)])
    verdict, _ = case.judged(at_least, 2)
    monkeypatch.setattr(verdicts, "_fewest_at_a_time", lambda engine, samples: 16)
    assert case.judged(at_least, 2)[0] == verdict == (case.robust.mean() >= at_least)
    assert len(next(met for _, met in case.calls)) == 12  # of 16, those that are right to begin with


def test_where_it_may_stop_depends_on_no_device_and_no_batch_size(tiny_samples):
    engines = [Engine(torch.device(name), batch_size=size) for name in ("cpu", "cuda") for size in (None, 3)]
    assert {verdicts._block(engine, tiny_samples) for engine in engines} == {32}


def test_an_accelerator_is_filled(tiny_samples):
    on_cpu, on_gpu = (Engine(torch.device(name), batch_size=4) for name in ("cpu", "cuda"))
    assert verdicts._fewest_at_a_time(on_cpu, tiny_samples) == 1
    assert verdicts._fewest_at_a_time(on_gpu, tiny_samples) == 4
