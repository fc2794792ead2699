"""Where things are in a run: the folder of the report, the cache, the bundle that is replayed, a test's baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_cnnaudit.options import flag, path_setting, setting

if TYPE_CHECKING:
    from pytest_cnnaudit.baselines import Baselines
    from pytest_cnnaudit.cache import Cache
    from pytest_cnnaudit.gallery import PictureFiles
    from pytest_cnnaudit.repro import Bundle

folder_key = pytest.StashKey[Path]()
cache_key = pytest.StashKey[Path | None]()
_files_key = pytest.StashKey["PictureFiles"]()
_cache_key = pytest.StashKey["Cache"]()
_bundle_key = pytest.StashKey["Bundle"]()


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of xdist: it reports to the controller, which writes."""
    return hasattr(config, "workerinput")


def report_folder(config: pytest.Config) -> Path:
    """Where the report goes.

    Raises:
        pytest.UsageError: something else is there.
    """
    from pytest_cnnaudit.gallery import ReportFolderError, check_folder

    replays = bool(setting(config, "replay"))
    if replays and not config.getoption("cnnaudit_dir"):  # the suite's own folder may be the one that has the bundle
        folder = config.invocation_params.dir / "cnnaudit-replay"
    else:
        folder = path_setting(config, "dir")
    try:
        check_folder(folder)
    except (ReportFolderError, OSError) as error:
        raise pytest.UsageError(f"--cnnaudit-dir: {error}; give another folder.") from None
    if replays and path_setting(config, "replay").resolve().is_relative_to(folder.resolve()):
        raise pytest.UsageError(f"--cnnaudit-dir: {folder} holds the bundle of --cnnaudit-replay; give another folder.")
    return folder


def cache_folder(config: pytest.Config) -> Path | None:
    """Where results are kept; None where none are."""
    if flag(config, "no_cache"):
        return None
    if setting(config, "cache"):
        return path_setting(config, "cache")
    pytests_own = getattr(config, "cache", None)
    try:
        return None if pytests_own is None else Path(pytests_own.mkdir("cnnaudit"))
    except OSError:  # a folder that cannot be written: pytest warns of it by itself
        return None


def cache(config: pytest.Config) -> Cache | None:
    """What was measured before; None where nothing is kept."""
    folder = config.stash[cache_key]
    if folder is None:
        return None

    from pytest_cnnaudit.cache import Cache

    return config.stash.setdefault(_cache_key, Cache(folder))


def bundle(config: pytest.Config, nodeid: str) -> Bundle | None:
    """What `--cnnaudit-replay` names; an error where it is of another test."""
    if not setting(config, "replay"):
        return None
    from pytest_cnnaudit.errors import AuditError
    from pytest_cnnaudit.repro import ReproError, read_bundle

    try:
        if _bundle_key not in config.stash:
            config.stash[_bundle_key] = read_bundle(path_setting(config, "replay"))
        found = config.stash[_bundle_key]
        found.check(nodeid, int(setting(config, "seed")))
    except ReproError as error:
        raise AuditError(f"--cnnaudit-replay: {error}") from None
    return found


def baselines(config: pytest.Config, item: pytest.Item, replayed: Bundle | None) -> Baselines:
    """Those of a test, from the file beside it; in a replay, from the bundle."""
    from pytest_cnnaudit.accepting import command
    from pytest_cnnaudit.baselines import Baselines, baseline_path

    here = config.invocation_params.dir
    if replayed is not None and replayed.samples is not None:  # without, it runs on all samples
        path, updating, report = replayed.baselines, False, replayed.folder.resolve().parents[1]
    else:
        path, updating, report = baseline_path(item.path), flag(config, "update_baselines"), config.stash[folder_key]
    accept = command(_seen_from(here, report), item.nodeid, root=config.rootpath, here=here)
    return Baselines(path, item.nodeid, updating=updating, accept=accept)


def link(config: pytest.Config, nodeid: str) -> str:
    """Where a test is in the report, seen from where pytest was called."""
    return f"{shown_report(config)}/index.html#{nodeid}"


def shown_report(config: pytest.Config) -> str:
    """The folder of the report, seen from where pytest was called."""
    return _seen_from(config.invocation_params.dir, config.stash[folder_key])


def _seen_from(here: Path, folder: Path) -> str:
    """A folder's path, relative if it lies below."""
    return (folder.relative_to(here) if folder.is_relative_to(here) else folder).as_posix()


def picture_files(config: pytest.Config) -> PictureFiles:
    """The pictures of the report, as this process writes them."""
    from pytest_cnnaudit.gallery import PictureFiles

    return config.stash.setdefault(_files_key, PictureFiles(config.stash[folder_key]))
