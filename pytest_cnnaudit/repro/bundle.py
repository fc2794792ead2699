"""A bundle, read back: a test, the samples on which it failed, and what attacks made of them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_cnnaudit.errors import AuditError
from pytest_cnnaudit.repro.arrays import Arrays, as_samples
from pytest_cnnaudit.samples import Samples

SCHEMA = 1
FACTS, ARRAYS, BASELINES, README = "bundle.json", "samples.npz", "baselines.json", "README.txt"
"""The files of a bundle."""


class ReproError(AuditError):
    """No bundle, a damaged one, or one of something else: one sentence that says what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """What a failed test has left.

    Attributes:
        folder: where it is.
        facts: what `bundle.json` says.
        arrays: what `samples.npz` holds; empty where the measurement is not made of samples one by one.
    """

    folder: Path
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    @property
    def test(self) -> str:
        """The test's id."""
        return str(self.facts["test"])

    @property
    def seed(self) -> int:
        """Of the run that failed."""
        return int(self.facts["seed"])

    @property
    def command(self) -> tuple[str, ...]:
        """What shows the failure again, word by word."""
        return tuple(self.facts["command"])

    @property
    def samples(self) -> Samples | None:
        """The samples that did worst, the worst first; None where the test must run on its own.

        Ids, labels, class names, boxes and masks are as they were, and the images the same numbers.
        """
        if not self.arrays:
            return None
        return as_samples(self.facts["samples"], self.arrays)

    @property
    def adversarial(self) -> dict[str, NDArray[np.floating[Any]]]:
        """The images that an attack made, C×H×W, by sample id: as they were, number by number."""
        if "adversarial" not in self.arrays:
            return {}
        ids = [each["id"] for each in self.facts["samples"]["worst"]]
        return {ids[place]: self.arrays["adversarial"][at] for at, place in enumerate(self.arrays["adversarial_of"])}

    @property
    def baselines(self) -> Path:
        """The file with the baselines of these samples; it need not be there."""
        return self.folder / BASELINES

    def check(self, test: str, seed: int) -> None:
        """Raise a `ReproError` where another test is run, or with another seed.

        Another model is none: whether a repaired one holds on these samples is worth a look.
        """
        if test != self.test:
            raise ReproError(f"The bundle {self.folder} is of {self.test}, not of {test}: run that test alone.")
        if seed != self.seed:
            raise ReproError(
                f"The bundle {self.folder} is of a run with seed {self.seed}, not {seed}: use "
                f"--cnnaudit-seed {self.seed}, so that every draw is as it was."
            )


def read_bundle(path: Path) -> Bundle:
    """The bundle in a folder, or the one that a ``bundle.json`` belongs to.

    Raises:
        ReproError: there is none, it is damaged, or another version wrote it.
    """
    folder = path.parent if path.name == FACTS else path
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        schema = facts["schema"]
        if schema == SCHEMA:
            bundle = Bundle(folder, facts, {} if facts["arrays"] is None else _arrays(folder, facts["arrays"]))
            _ = bundle.test, bundle.seed, bundle.command, bundle.samples, bundle.adversarial  # all that is asked of it
            return bundle
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ReproError(
            f"There is no bundle in {folder} ({Path(str(error.filename)).name} is missing): name a folder that a run "
            "with --cnnaudit-repro has left under repro in its report."
        ) from None
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError, AuditError) as error:
        raise ReproError(
            f"The bundle {folder} is damaged ({type(error).__name__}: {error}): let the test fail again with "
            "--cnnaudit-repro."
        ) from None
    raise ReproError(
        f"The bundle {folder} has schema {schema!r}, and this pytest-cnnaudit reads schema {SCHEMA}: let the test fail "
        "again with --cnnaudit-repro."
    )


def _arrays(folder: Path, digest: str) -> Arrays:
    content = (folder / ARRAYS).read_bytes()
    if digest_of(content) != digest:
        raise ValueError(f"{ARRAYS} is not the file that was written with {FACTS}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from None


def digest_of(content: bytes) -> str:
    """By which `bundle.json` knows its `samples.npz`."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
