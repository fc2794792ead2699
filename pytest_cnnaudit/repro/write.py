"""A test has failed: its worst samples, what was measured how, and the command that shows it again, as files."""

from __future__ import annotations

import hashlib
import io
import json
import math
import platform
import re
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_cnnaudit.atomic import write_atomically
from pytest_cnnaudit.baselines.file import BaselineError, update
from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.model.digest import digest as model_digest
from pytest_cnnaudit.repro.arrays import Arrays, as_arrays, as_facts, as_samples
from pytest_cnnaudit.repro.baselines import lost, narrowed
from pytest_cnnaudit.repro.bundle import ARRAYS, BASELINES, FACTS, README, SCHEMA, digest_of
from pytest_cnnaudit.repro.worst import failed_measurement, failures, regressions, rows_of, worst
from pytest_cnnaudit.results import Measurement, figure
from pytest_cnnaudit.samples.digest import digest as samples_digest
from pytest_cnnaudit.versions import versions

if TYPE_CHECKING:
    from pytest_cnnaudit.audit import Audit

_LONGEST = 60  # characters of a test's name in that of its bundle


def write_bundle(
    folder: Path, audit: Audit, *, test: str, command: Sequence[str], relative_to: Path
) -> dict[str, str] | None:
    """Write what shows a failed test's failure again.

    Args:
        folder: of all bundles; that of this test is made in it.
        audit: of the test.
        test: its id.
        command: what runs this one test as it ran, word by word; the option that names the bundle is added.
        relative_to: the folder in which the command will be given.

    Returns:
        For the record: the `command` as it is typed, the `bundle`'s folder, and the `trouble` where it could not be
        written, or a sample not be read again; the command is then that of the test alone. None where the test failed
        before it had measured anything.
    """
    measurement = failed_measurement(audit.measurements)
    if measurement is None:
        return None
    bundle = folder / bundle_name(test)
    shown = bundle.relative_to(relative_to) if bundle.is_relative_to(relative_to) else bundle
    again = [*command, "--cnnaudit-replay", str(shown)]
    try:
        _write(bundle, audit, measurement, test, again)
    except (OSError, AuditError, BaselineError) as error:
        return {"command": shlex.join(command), "bundle": "", "trouble": f"{shown} could not be written: {error}"}
    return {"command": shlex.join(again), "bundle": str(shown), "trouble": ""}


def bundle_name(test: str) -> str:
    """A folder's name for a test: short, safe on any file system, and no other test's.

    >>> bundle_name("tests/test_audit.py::test_holds[v1]")
    'test_holds-v1-12b6fdb9'
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", test.rpartition("::")[2]).strip("-")[:_LONGEST].rstrip("-")
    known_by = hashlib.blake2b(test.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{readable}-{known_by}" if readable else known_by


def _write(bundle: Path, audit: Audit, measurement: Measurement, test: str, command: Sequence[str]) -> None:
    facts = {"schema": SCHEMA, "test": test, "command": list(command), **_facts(audit, measurement)}
    facts["samples"], arrays = _worst(audit, measurement)
    facts["arrays"], packed = None, io.BytesIO()
    for name in (FACTS, ARRAYS, BASELINES, README):  # of an earlier failure of the same test
        (bundle / name).unlink(missing_ok=True)
    if arrays:
        np.savez_compressed(packed, allow_pickle=False, **arrays)
        write_atomically(bundle / ARRAYS, packed.getvalue())
        facts["arrays"] = digest_of(packed.getvalue())
        if entries := narrowed(audit.baselines, audit.samples, as_samples(facts["samples"], arrays)):
            update(bundle / BASELINES, {test: entries})
    write_atomically(bundle / README, _readme(facts).encode("utf-8", "backslashreplace"))
    text = json.dumps(facts, indent=1, allow_nan=False)
    write_atomically(bundle / FACTS, f"{text}\n".encode())  # last: without it this is no bundle


def _facts(audit: Audit, measurement: Measurement) -> dict[str, Any]:
    missed = [
        {"metric": metric.name, "display": metric.display, "op": each.op, "threshold": _number(each.threshold)}
        | ({"on": each.on} if each.on else {})
        for metric, each in failures(measurement)
    ]
    worse = [
        {"metric": metric.name, "display": metric.display, "baseline": dict(metric.baseline or {})}
        for metric in regressions(measurement)
    ]
    return {
        "seed": audit.seed,
        "device": str(audit.device),
        "precision": audit._engine.precision,
        "versions": {"python": platform.python_version(), **versions("pytest-cnnaudit", "torch", "numpy")},
        "model": {"name": audit.model.name, "digest": model_digest(audit.model.module)},
        "measurement": {
            "kind": measurement.kind,
            "title": measurement.title,
            "settings": dict(measurement.settings),
            "complete": measurement.complete,
        },
        "failed": [*missed, *worse],
    }


def _number(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))  # JSON has no infinity


def _worst(audit: Audit, measurement: Measurement) -> tuple[dict[str, Any] | None, Arrays]:
    """The samples on which it failed, in words and numbers; None where it was not made of samples one by one."""
    samples = audit._samples
    chosen = [] if samples is None else worst(measurement, samples.ids, partial(lost, audit.baselines, measurement))
    if samples is None or not chosen:
        return None, {}
    places = {name: place for place, name in enumerate(samples.ids)}
    few = [samples[places[name]] for name in chosen]
    rows = rows_of(measurement, chosen)
    facts = {"digest": samples_digest(samples), **as_facts(samples, few)}
    for each in facts["worst"]:
        each["class"] = audit.model.class_name(each["label"])
        if each["id"] in rows:
            each["status"], each["figures"] = rows[each["id"]].status, dict(rows[each["id"]].figures)
    made = {name: row.arrays["adversarial"] for name, row in rows.items() if "adversarial" in row.arrays}
    return facts, as_arrays(few, made)


def _readme(facts: dict[str, Any]) -> str:
    lines = [f"{facts['test']} failed:", ""]
    for each in facts["failed"]:
        held = "is worse than its baseline" if "baseline" in each else _missed(each)
        lines.append(f"  {each['metric']} {each['display']} {held}")
    of_samples = facts["samples"] is not None
    count = len(facts["samples"]["worst"]) if of_samples else 0
    few = {0: "", 1: ", on the worst sample alone"}.get(count, f", on the {count} worst samples alone")
    lines += [*[""][: bool(facts["failed"])], f"The same failure again{few}:", "", f"  {shlex.join(facts['command'])}"]
    lines += ["", "It needs the suite and its model. If this folder was moved, name it as it is called now.", ""]
    lines += [f"{FACTS:16}what was measured how, and what came of each of these samples"]
    if of_samples:
        lines += [
            f"{ARRAYS:16}arrays of numpy: images (N×C×H×W; bytes are 255 times the values) and labels; where there are",
            f"{'':16}any, masks, adversarial images and perturbations, and which samples these belong to (…_of)",
        ]
    return "\n".join([*lines, ""])


def _missed(missed: dict[str, Any]) -> str:
    threshold = missed["threshold"]
    on = f" ({missed['on']} of its 95% CI)" if "on" in missed else ""
    return f"should be {missed['op']} {threshold if isinstance(threshold, str) else figure(threshold)}{on}"
