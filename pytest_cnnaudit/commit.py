"""Which git commit is audited, found without running git."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_NAMED_BY = ("GITHUB_SHA", "CI_COMMIT_SHA")  # the variables of GitHub and GitLab


def commit(root: Path | None = None) -> str | None:
    """The commit that a CI system names, or else that of the working tree in which `root` lies; None where none is."""
    for name in _NAMED_BY:
        if _DIGEST.fullmatch(os.environ.get(name, "")):
            return os.environ[name]
    for folder in () if root is None else (root.absolute(), *root.absolute().parents):
        if (folder / ".git").exists():
            with suppress(OSError, UnicodeDecodeError):
                return _head(folder / ".git")
            return None
    return None


def _head(git: Path) -> str | None:
    """What HEAD points at: a commit, or a branch, whose commit has a file of its own or is packed."""
    if git.is_file():  # of a further working tree or a submodule
        git = git.parent / git.read_text().removeprefix("gitdir:").strip()
    head = (git / "HEAD").read_text().strip()
    common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
    if head.startswith("ref:"):
        branch = head.removeprefix("ref:").strip()
        if (common / branch).is_file():
            head = (common / branch).read_text().strip()
        else:
            lines = (common / "packed-refs").read_text().splitlines()
            head = next((line.split()[0] for line in lines if line.endswith(f" {branch}")), "")
    return head if _DIGEST.fullmatch(head) else None
