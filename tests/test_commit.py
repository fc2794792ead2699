"""The commit that is audited, compared with what git itself says."""

import shutil
import subprocess

import pytest

from pytest_cnnaudit.commit import commit

if shutil.which("git") is None:
    pytest.skip("needs git, to compare with", allow_module_level=True)

DIGEST = "0123456789" * 4


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch):
    for name in ("GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(name, raising=False)


def git(folder, *arguments):
    named = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", folder, *named, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    git(folder, "init")
    git(folder, "commit", "--allow-empty", "-m", "one")
    return folder


def test_it_is_that_of_the_branch_from_any_folder_in_the_tree(tree):
    assert commit(tree / "a" / "b") == commit(tree) == git(tree, "rev-parse", "HEAD")


def test_a_packed_branch_a_detached_head_and_a_further_working_tree_are_read(tree):
    git(tree, "checkout", "-b", "x/main")
    git(tree, "commit", "--allow-empty", "-m", "two")
    git(tree, "pack-refs", "--all")
    assert commit(tree) == git(tree, "rev-parse", "HEAD")
    git(tree, "worktree", "add", "../further", "-b", "further", "main")
    assert commit(tree.parent / "further") == git(tree, "rev-parse", "main") != commit(tree)
    git(tree, "checkout", "--detach", "main")
    assert commit(tree) == git(tree, "rev-parse", "main")


def test_a_ci_system_knows_better(tree, monkeypatch):
    monkeypatch.setenv("CI_COMMIT_SHA", "main")
    assert commit(tree) == git(tree, "rev-parse", "HEAD")
    monkeypatch.setenv("CI_COMMIT_SHA", DIGEST)
    assert commit(tree) == commit() == DIGEST


def test_there_may_be_none(tmp_path, tree):
    assert commit() is None
    assert commit(tmp_path) is None
    (tree / ".git" / "HEAD").write_text("ref: refs/heads/nowhere\n")
    assert commit(tree) is None
    (tree / ".git" / "HEAD").write_text("main\n")
    assert commit(tree) is None
    (tree / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert commit(tree) is None
    (tree / ".git" / "HEAD").unlink()
    assert commit(tree) is None
