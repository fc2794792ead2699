"""Not worse than last time?"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TypeVar

import torch

import pytest_cnnaudit
from pytest_cnnaudit.baselines import Baselines
from pytest_cnnaudit.baselines.compare import compare, differences
from pytest_cnnaudit.baselines.entry import Facts, entry
from pytest_cnnaudit.baselines.told import Compared, exhibits_of, missing, note_of, regression
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model.digest import digest as model_digest
from pytest_cnnaudit.questions.asker import Asker
from pytest_cnnaudit.results import Measurement, Metric
from pytest_cnnaudit.samples.digest import digest, held

M = TypeVar("M", bound=Measurement)


class RegressionQuestions(Asker):
    """Of what was measured last time."""

    def assert_no_regression(
        self, measurement: M, *, tolerance: float = 0.0, metrics: Sequence[str] | None = None
    ) -> M:
        """The figures are not worse than those that were accepted last time, sample by sample.

        Fails where a figure is worse by more than the tolerance *and* by more than chance explains: McNemar's exact
        test for shares, Wilcoxon signed-rank test for medians, a paired permutation test for others, at 5%. What is
        better is reported, and becomes the baseline only if someone accepts it.

        Args:
            measurement: what a question or an assertion returned; measured to its end.
            tolerance: by how much a figure may be worse, in its unit.
            metrics: the names of those that are compared; the first of the measurement where None.

        Returns:
            The measurement, which now says how it compares.

        Raises:
            AssertionError: a figure is worse, or has no baseline yet; says how to accept what was measured.
            AuditError: the measurement stopped early, has no such metric, or is not of the same samples and settings
                as the baseline; or the baseline file is damaged.
        """
        baselines = self._baselines(measurement, tolerance)
        compared: list[Compared] = []
        failures: list[str] = []
        unlike: list[str] = []
        facts = self._facts(measurement)
        for metric in _chosen(measurement, metrics):
            now = entry(metric, measurement, facts)
            name = baselines.take(metric.name, now)
            before = baselines.find(name)
            others = differences(before, now) if before else []
            change = compare(before, now, tolerance) if before and not others else None
            found = Compared(metric, measurement.ids, name, before, now, tolerance, change, tuple(others))
            metric.baseline = found.record
            compared.append(found)
            if baselines.updating:
                continue
            if before is None or change is None:
                (unlike if others else failures).append(missing(found, baselines))
            elif change.verdict == "worse":
                failures.append(regression(found, before, change, baselines))
        told = self._told(measurement, compared, baselines)
        if unlike:
            raise AuditError("\n".join(unlike))
        if failures:
            raise AssertionError("\n".join(failures))
        return told

    def _baselines(self, measurement: Measurement, tolerance: float) -> Baselines:
        if self.baselines is None:
            raise AuditError(
                "assert_no_regression needs to know where baselines are kept: in a test the fixture audit does; "
                "elsewhere make Audit(model, samples, baselines=Baselines(path, test))."
            )
        if not isinstance(measurement, Measurement):
            raise AuditError(
                f"assert_no_regression was given {type(measurement).__name__}; give it what a question of the audit "
                "returns, for example audit.attack(...)."
            )
        if not (tolerance >= 0 and math.isfinite(tolerance)):
            raise AuditError(f"tolerance={tolerance} is not by how much a figure may be worse; give 0 or more.")
        if not measurement.complete:
            raise AuditError(
                f"The measurement {measurement.kind!r} stopped as soon as the verdict was certain, so its figures are "
                "bounds; a baseline needs one without a threshold, for example audit.attack(...) in place of "
                "audit.assert_robust(...)."
            )
        return self.baselines

    def _facts(self, measurement: Measurement) -> Facts:
        return Facts(
            samples=self._measured_samples(measurement.ids),
            model={"name": self.model.name, "digest": model_digest(self.model.module)},
            seed=self.seed,
            device=self.device.type,
            precision=self._engine.precision,
            versions={"pytest-cnnaudit": pytest_cnnaudit.__version__, "torch": torch.__version__},
            measured=datetime.now(UTC).date().isoformat(),
        )

    def _measured_samples(self, ids: Sequence[str]) -> Mapping[str, str | int]:
        """Those of the audit's samples that were measured; or filters, pairs, …, which have only their names."""
        samples = self._samples
        place = {} if samples is None else {name: position for position, name in enumerate(samples.ids)}
        if samples is None or not all(name in place for name in ids):
            names = hashlib.blake2b("\n".join(ids).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
            return {"n": len(ids), "ids": names, "content": "", "source": ""}
        chosen = samples if not ids or tuple(ids) == samples.ids else samples[[place[name] for name in ids]]
        return {"n": len(chosen), "ids": digest(chosen), "content": held(chosen), "source": samples.source}

    def _told(self, measurement: M, compared: Sequence[Compared], baselines: Baselines) -> M:
        """The measurement with what came of it, in the place of the one that was kept."""
        told = replace(
            measurement,
            notes=(*measurement.notes, *(note_of(each, baselines) for each in compared)),
            exhibits=(*exhibits_of(measurement, compared), *measurement.exhibits),
        )
        for place, each in enumerate(self.measurements):
            if each is measurement:
                self.measurements[place] = told
                return told
        self.measurements.append(told.linked(self.link))
        return told


def _chosen(measurement: Measurement, names: Sequence[str] | None) -> list[Metric]:
    """The metrics by their names, or the first one.

    Raises:
        AuditError: there is no such metric, or none of its directions is better.
    """
    known = {metric.name: metric for metric in _metrics(measurement)}
    if isinstance(names, str):
        names = [names]
    if names is not None and not names:
        raise AuditError("metrics= names nothing to compare; leave it out for the first metric of the measurement.")
    for name in names or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
            raise AuditError(
                f"The measurement {measurement.kind!r} has no metric {name!r}; it has "
                f"{', '.join(map(repr, close))}{'' if len(close) == len(known) else ', …'}."
            )
    chosen = [known[name] for name in names] if names is not None else measurement.metrics[:1]
    for metric in chosen:
        if metric.higher_is_better is None:
            able = [name for name, each in known.items() if each.higher_is_better is not None and each.n]
            raise AuditError(
                f"{metric.name} cannot be worse: neither direction of it is better. "
                + (f"Name others, metrics=[...]: {', '.join(map(repr, able))}." if able else "Nor can its others.")
            )
    return list(chosen)


def _metrics(measurement: Measurement) -> Iterator[Metric]:
    """All, also those by class, by eps or by quantile."""
    for each in fields(measurement):
        value = getattr(measurement, each.name)
        for metric in value.values() if isinstance(value, Mapping) else [value]:
            if isinstance(metric, Metric):
                yield metric
