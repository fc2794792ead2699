"""Baselines that no test uses any more."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pytest_cnnaudit.baselines.file import FOLDER, baseline_path, read


@dataclass(frozen=True, slots=True)
class WholeRun:
    """What a run that left out nothing came to. Ids are pytest's: paths relative to its root folder, with ``/``.

    Attributes:
        root: pytest's root folder.
        modules: ids of the modules that were collected without trouble.
        skipped: ids of what was skipped while it was collected: modules, classes, folders.
        tests: ids of all tests.
        asked: of each test that ran to its end and passed, the metrics that it compared with a baseline.
    """

    root: Path
    modules: Collection[str]
    skipped: Collection[str]
    tests: Collection[str]
    asked: Mapping[str, Collection[str]]


def unused(path: Path, run: WholeRun) -> list[tuple[str, str]]:
    """Test id and metric of the entries of a baseline file that nothing in the run can own.

    That is: its test is gone, or passed and did not ask for it. A test that was skipped, failed or had an error may
    ask for it another time. Nothing is known of a module that is there and was not collected, of a test whose list of
    parameters is empty this time, and of ids that begin elsewhere than at this root folder.

    Raises:
        BaselineError: the file cannot be read.
    """
    module = path.parent.parent / f"{path.stem}.py"
    name = Path(os.path.relpath(module, run.root)).as_posix()
    if name not in run.modules and module.exists():
        return []
    without_cases = {test.partition("[")[0] for test in run.tests if "[NOTSET" in test}
    return [
        (test, metric)
        for test, metrics in read(path).items()
        if _is_known(test, name, run) and test.partition("[")[0] not in without_cases
        for metric in metrics
        if test not in run.tests or metric not in run.asked.get(test, (metric,))
    ]


def _is_known(test: str, module: str, run: WholeRun) -> bool:
    """Whether the run would have collected a test of this id, if there was one."""
    if any(test.startswith((f"{node}::", f"{node}/")) for node in run.skipped):
        return False
    file = test.partition("::")[0]
    is_of_other_root = file != module and f"/{module}".endswith(f"/{file}") | f"/{file}".endswith(f"/{module}")
    return not is_of_other_root


def baseline_files(places: Iterable[Path], pruned: Collection[str]) -> Iterator[Path]:
    """The baseline files that belong to test modules or lie in folders, each once, sorted.

    Args:
        places: test modules, and folders that are searched through.
        pruned: patterns of the names of folders that are not entered, pytest's ``norecursedirs``.
    """
    found: set[Path] = set()
    for place in places:
        if place.is_dir():
            found.update(_below(place, pruned))
        elif (path := baseline_path(place)).is_file():
            found.add(path)
    yield from sorted(found)


def _below(folder: Path, pruned: Collection[str]) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        if Path(here).name == FOLDER:
            yield from (Path(here, file) for file in files if file.endswith(".json") and not file.startswith("."))
        folders[:] = [name for name in folders if name == FOLDER or not _is_passed_over(Path(here, name), pruned)]


def _is_passed_over(folder: Path, pruned: Collection[str]) -> bool:
    return any(fnmatch(folder.name, pattern) for pattern in pruned) or (folder / "pyvenv.cfg").is_file()
