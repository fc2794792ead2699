"""A metric as an entry: what it says is written and read without loss."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from pytest_cnnaudit.baselines.entry import Facts, entry, values_of
from pytest_cnnaudit.baselines.file import read, update
from pytest_cnnaudit.baselines.values import compute, rounded
from pytest_cnnaudit.results import Measurement, Metric
from pytest_cnnaudit.statistics import mean, quantile, share

FACTS = Facts(
    samples={"n": 3, "ids": "0" * 16, "content": "1" * 16, "source": "tensors (3 images)"},
    model={"name": "v1", "digest": "2" * 16},
    seed=4,
    device="cuda",
    precision="bfloat16",
    versions={"torch": "2.14.1"},
    measured="2026-11-26",
)


def entry_of(metric, **columns):
    found = Measurement(kind="attack", title="", settings={"eps": "4/255"}, per_sample=columns)
    return entry(metric, found, FACTS)


def test_an_entry_says_all_of_it():
    held = np.array([True, False, True])
    assert entry_of(share(held, name="robust accuracy", column="robust"), robust=held) == {
        "value": 0.6667,
        "display": "0.67",
        "ci95": [0.2077, 0.9385],
        "n": 3,
        "count": 2,
        "unit": "",
        "higher_is_better": True,
        "statistic": "share",
        "values": "a0",
        "measurement": "attack",
        "settings": {"eps": "4/255"},
        "samples": FACTS.samples,
        "model": FACTS.model,
        "seed": 4,
        "device": "cuda",
        "precision": "bfloat16",
        "versions": {"torch": "2.14.1"},
        "measured": "2026-11-26",
    }


def test_without_a_column_there_are_no_values():
    found = entry_of(Metric(np.nan, name="strongest", n=3, higher_is_better=True), v=np.ones(3))
    assert (found["statistic"], found["values"], found["value"], found["ci95"]) == (None, None, "nan", None)
    assert values_of(found) is None


def test_a_share_of_some_samples_is_a_mean_of_ones_and_zeros():
    column = np.array([1.0, np.nan, 0.0])
    found = entry_of(share(np.array([True, False]), name="hits", column="hit"), hit=column)
    assert (found["statistic"], found["values"], found["n"]) == ("mean", "1 nan 0", 2)
    assert np.array_equal(values_of(found), column, equal_nan=True)


numbers = arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1e6) | st.just(np.inf))


@given(numbers, st.sampled_from(["mean", "quantile 0.5", "quantile 0.05"]))
def test_it_comes_back_from_a_file_and_its_values_give_its_figure(tmp_path_factory, values, statistic):
    path = tmp_path_factory.mktemp("baselines") / "t.json"
    if statistic == "mean":
        values = np.where(np.isinf(values), 0, values)
        metric = mean(values, name="m", column="v", bounds=None)
    else:
        metric = quantile(values, float(statistic[9:]), name="m", column="v")
    made = entry_of(metric, v=values)
    json.loads(json.dumps(made, allow_nan=False))
    update(path, {"t": {"m": made}})
    found = read(path)["t"]["m"]
    assert found == made
    assert float(found["value"]) == pytest.approx(float(metric), rel=6e-4)
    assert compute(statistic, values_of(found)) == pytest.approx(float(found["value"]), rel=2e-3, abs=1e-9)
    assert update(path, {"t": {"m": entry_of(metric, v=values)}}) == []


@given(arrays(np.float32, 8, elements=st.floats(0, 1, width=32)))
def test_the_same_values_in_another_precision_are_the_same_entry(values):
    entries = [entry_of(quantile(each, 0.5, name="m", column="v"), v=each) for each in (values, values.astype(float))]
    assert entries[0]["values"] == entries[1]["values"]
    assert entries[0]["value"] == entries[1]["value"] == rounded(float(entries[0]["value"]))
