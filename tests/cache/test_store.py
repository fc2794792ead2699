"""Entries are whole or not there: whoever writes, trims or dies at the same time, and whatever happens to the files."""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pytest_cnnaudit.cache.store import Store

KEY, OTHER = "ab" * 8, "cd" * 8
DATA = bytes(range(256)) * 3


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def entry(store, key=KEY, name="result"):
    return store.folder / key[:2] / key / name


def files(store):
    """All files of entries, temporary ones included."""
    return sorted(path.name for path in store.folder.glob("??/*/*"))


def used(store, key, seconds_ago):
    """Set when a key was used."""
    then = time.time() - seconds_ago
    os.utime(entry(store, key).parent, (then, then))


@pytest.mark.parametrize("data", [b"", b"\0", DATA, bytes(2**21)])
def test_what_was_written_is_read(store, data):
    assert store.read(KEY, "result") is None
    store.write(KEY, "result", b"before")
    store.write(KEY, "result", data)
    assert store.read(KEY, "result") == data
    assert (store.read(KEY, "other"), store.read(OTHER, "result")) == (None, None)
    assert Store(store.folder).read(KEY, "result") == data
    assert (files(store), store.trouble) == (["result"], "")


def test_names_are_those_of_entries(store):
    assert store.names(KEY) == []
    store.write(KEY, "b-2.x", b"")
    store.write(KEY, "a", b"")
    (entry(store).parent / ".a-being-written").write_bytes(b"half")
    assert store.names(KEY) == ["a", "b-2.x"]


def test_one_name_is_removed_or_all_but_one_are_dropped(store):
    for name in ("a", "b", "c", "d"):
        store.write(KEY, name, DATA)
        store.write(OTHER, name, DATA)
    store.remove(KEY, "a")
    store.remove(KEY, "a")
    assert store.names(KEY) == ["b", "c", "d"]
    store.drop(KEY, "c")
    assert store.names(KEY) == ["c"]
    store.drop(KEY)
    store.drop(KEY, "c")
    assert (store.names(KEY), store.names(OTHER)) == ([], ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    "key", ["", "ab", "../../../x", "AB" * 8, "a/b" * 4, ".abababababab", "ab" * 65, "ab" * 8 + "\n"]
)
def test_a_key_that_is_no_safe_name_is_refused(store, key):
    for ask in (
        lambda: store.read(key, "a"),
        lambda: store.write(key, "a", b""),
        lambda: store.names(key),
        lambda: store.remove(key, "a"),
        lambda: store.drop(key),
    ):
        with pytest.raises(ValueError, match="does not name an entry"):
            ask()


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0", "a\n", "ä", "a" * 129])
def test_a_name_that_is_no_safe_name_is_refused(store, name):
    for ask in (
        lambda: store.read(KEY, name),
        lambda: store.write(KEY, name, b""),
        lambda: store.remove(KEY, name),
    ):
        with pytest.raises(ValueError, match="does not name an entry"):
            ask()
    assert not store.folder.exists()


def test_torch_and_pytest_are_not_loaded():
    code = "import sys, pytest_cnnaudit.cache.store; sys.exit(bool({'torch', 'pytest', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The folder ----------------------------------------------------------------------------------------------------------


def test_a_new_folder_is_left_out_of_backups_and_of_git(store):
    store.write(KEY, "result", DATA)
    assert (store.folder / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert (store.folder / ".gitignore").read_text().splitlines()[-1] == "*"
    assert sorted(path.name for path in store.folder.iterdir()) == [".gitignore", "CACHEDIR.TAG", "ab"]


def test_a_folder_with_work_in_it_is_not_hidden_from_git(store):
    store.folder.mkdir()
    (store.folder / "thesis.tex").write_text("work")
    store.write(KEY, "result", DATA)
    assert sorted(path.name for path in store.folder.iterdir()) == ["ab", "thesis.tex"]


def test_reading_makes_no_folder(store):
    store.read(KEY, "result")
    store.names(KEY)
    store.drop(KEY)
    store.trim(0)
    assert not store.folder.exists()


# Damage --------------------------------------------------------------------------------------------------------------


def test_an_entry_cut_short_at_any_length_is_dropped(store):
    store.write(KEY, "result", b"twelve bytes")
    path = entry(store)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert store.read(KEY, "result") is None
        assert not path.exists()
    path.write_bytes(whole)
    assert store.read(KEY, "result") == b"twelve bytes"


def test_an_entry_with_any_bit_flipped_is_dropped(store):
    store.write(KEY, "result", b"twelve bytes")
    path = entry(store)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert store.read(KEY, "result") is None
        assert not path.exists()


@pytest.mark.parametrize(
    "damage", [lambda whole: whole + b"\0", lambda whole: bytes(len(whole)), lambda whole: whole * 2]
)
def test_an_entry_that_is_longer_or_zeros_is_dropped(store, damage):
    store.write(KEY, "result", DATA)
    path = entry(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.read(KEY, "result") is None
    store.write(KEY, "result", DATA)
    assert store.read(KEY, "result") == DATA


@pytest.mark.parametrize(("key", "name"), [(OTHER, "result"), (KEY, "other")])
def test_an_entry_in_the_place_of_another_is_dropped(store, key, name):
    store.write(KEY, "result", DATA)
    store.write(key, name, b"other")
    os.replace(entry(store), entry(store, key, name))
    assert store.read(key, name) is None


def test_a_folder_in_the_place_of_an_entry_is_no_entry(store):
    entry(store).mkdir(parents=True)
    assert store.read(KEY, "result") is None
    store.write(KEY, "result", DATA)
    assert store.read(KEY, "result") is None
    assert "could not keep a result" in store.trouble
    assert files(store) == ["result"]  # and nothing temporary
    assert store.names(KEY) == []
    store.drop(KEY)
    store.trim(0)


def test_a_file_in_the_place_of_the_folder_is_trouble_and_no_error(store):
    store.folder.write_text("not a folder")
    store.write(KEY, "result", DATA)
    assert store.trouble == f"The cache could not keep a result in {store.folder}: File exists."
    assert (store.read(KEY, "result"), store.names(KEY)) == (None, [])
    store.drop(KEY)
    store.trim(0)


_WITHOUT_RIGHTS = """
import os, sys
from pathlib import Path
from pytest_cnnaudit.cache.store import Store
if os.geteuid() == 0:
    os.setuid(65534)
store = Store(Path(sys.argv[1]))
print(store.read("ab" * 8, "closed"), store.read("ab" * 8, "open"))
store.write("ab" * 8, "new", b"data")
store.drop("ab" * 8)
store.trim(0)
print(store.names("ab" * 8), store.trouble)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs the rights of files of POSIX")
def test_without_permission_nothing_is_kept_and_nothing_fails():
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "cache")
        for name in ("closed", "open"):
            store.write(KEY, name, b"data")
        entry(store, name="closed").chmod(0)
        entry(store).parent.chmod(0o555)
        Path(folder).chmod(0o755)
        run = _child(_WITHOUT_RIGHTS, store.folder)
        entry(store).parent.chmod(0o755)
        kept = f"The cache could not keep a result in {store.folder}: Permission denied."
        assert run == ["None b'data'", f"['closed', 'open'] {kept}"]


_FULL_DISK = """
import resource, sys
from pathlib import Path
from pytest_cnnaudit.cache.store import Store
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store.write("ab" * 8, "small", bytes(100))
assert not store.trouble
store.write("ab" * 8, "large", bytes(10_000))
print(store.trouble)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs the limits of POSIX")
def test_where_no_more_can_be_written_what_was_there_stays(store):
    store.write(KEY, "large", b"before")
    assert _child(_FULL_DISK, store.folder) == [f"The cache could not keep a result in {store.folder}: File too large."]
    assert (store.read(KEY, "large"), store.read(KEY, "small")) == (b"before", bytes(100))
    assert files(store) == ["large", "small"]


def _child(code, *arguments):
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


# Size ----------------------------------------------------------------------------------------------------------------


def keys_of(store):
    return sorted(path.name for path in store.folder.glob("??/*"))


def test_the_keys_used_least_recently_go_first(store):
    keys = [f"{number:02x}" * 8 for number in range(5)]
    for number, key in enumerate(keys):
        store.write(key, "a", bytes(1000))
        store.write(key, "b", bytes(1000))
        used(store, key, seconds_ago=100 - number)
    store.trim(5 * 2200)
    assert keys_of(store) == keys
    assert store.read(keys[0], "a")  # this is use
    store.trim(3 * 2200)
    assert keys_of(store) == [keys[0], *keys[3:]]
    used(store, keys[3], seconds_ago=100)
    store.write(keys[3], "c", b"")  # and so is this
    store.trim(2 * 2200)
    assert keys_of(store) == [keys[0], keys[3]]
    store.trim(0)
    assert keys_of(store) == []
    assert sorted(path.name for path in store.folder.iterdir()) == [".gitignore", "CACHEDIR.TAG"]


def test_what_a_writer_left_behind_goes_after_an_hour(store):
    store.write(KEY, "result", DATA)
    fresh, old, lonely = (entry(store, name=name) for name in (".result-1", ".result-2", ".result-3"))
    lonely = entry(store, OTHER, ".result-3")
    lonely.parent.mkdir(parents=True)
    for path in (fresh, old, lonely):
        path.write_bytes(b"half")
    for path in (old, lonely):
        os.utime(path, (time.time() - 3700,) * 2)
    store.trim(10**6)
    assert files(store) == [".result-1", "result"]
    assert keys_of(store) == [KEY]


def test_trimming_takes_nothing_for_an_entry_that_is_none(store):
    store.write(KEY, "result", DATA)
    work = [store.folder / "go" / "golang" / "main.go", store.folder / "ab" / OTHER / "x", store.folder / "data.csv"]
    work += [store.folder / "src" / KEY / "y", entry(store).parent / "folder" / "z"]
    for path in work:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("work" * 1000)
    store.trim(1000)  # the work is not counted
    assert store.names(KEY) == ["result"]
    store.trim(0)
    assert store.names(KEY) == []
    assert all(path.read_text() == "work" * 1000 for path in work)


# Other processes -----------------------------------------------------------------------------------------------------

_HAMMER = """
import hashlib, random, sys, time
from pathlib import Path
from pytest_cnnaudit.cache.store import Store

store, draw, end = Store(Path(sys.argv[1])), random.Random(int(sys.argv[2])), time.monotonic() + float(sys.argv[3])
keys, names = [f"{number:02x}" * 8 for number in range(4)], ["a", "b"]
hits = misses = 0
while time.monotonic() < end:
    key, name = draw.choice(keys), draw.choice(names)
    what = draw.random()
    if what < 0.4:
        text = f"{key} {name} {draw.random()} ".encode() * draw.randrange(1, 4000)
        store.write(key, name, hashlib.sha256(text).digest() + text)
    elif what < 0.9:
        data = store.read(key, name)
        if data is None:
            misses += 1
        else:
            assert hashlib.sha256(data[32:]).digest() == data[:32]
            assert data[32:].startswith(f"{key} {name} ".encode())
            hits += 1
    elif what < 0.95:
        assert set(store.names(key)) <= set(names)
        store.drop(key, draw.choice([name, None]))
    elif what < 0.97:
        store.remove(key, name)
    else:
        store.trim(draw.choice([0, 300_000]))
assert not store.trouble, store.trouble
print(hits, misses)
"""


def test_processes_that_do_everything_at_once_never_fail_nor_read_half_an_entry(store):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _HAMMER, store.folder, str(seed), "2.5"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    hits = 0
    for each in running:
        output, errors = each.communicate(timeout=60)
        assert (each.returncode, errors) == (0, "")
        hits += int(output.split()[0])
    assert hits > 100
    store.trim(0)
    assert files(store) == []


_WRITER = """
import sys
from pathlib import Path
from pytest_cnnaudit.cache.store import Store
store = Store(Path(sys.argv[1]))
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    number += 1
    store.write("ab" * 8, "result", str(number).encode().rjust(20) * 100_000)
"""


def kill_writers(store, times):
    """Kill a writer that replaces one entry of 2 MB again and again; return how often it left half a file."""
    draw, halves = random.Random(0), 0
    for number in range(times):
        command = [sys.executable, "-c", _WRITER, store.folder, str(number * 10**6)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(draw.uniform(0, 0.03))
            writer.kill()
        there = entry(store).exists()
        data = store.read(KEY, "result")
        assert (data is not None) == there  # what has its name is whole
        assert data is None or data == data[:20] * 100_000
        left = [path for path in store.folder.glob("??/*/*") if path.name != "result"]
        halves += len(left)
        for path in left:
            os.utime(path, (time.time() - 3700,) * 2)
        store.trim(10**9)
        assert set(files(store)) <= {"result"}
    return halves


def test_a_writer_killed_at_any_moment_leaves_no_broken_entry(store):
    assert kill_writers(store, 15) > 0


@pytest.mark.benchmark
def test_200_writers_killed_leave_no_broken_entry(store):
    halves = kill_writers(store, 200)
    print(f"\n200 writers killed, {halves} in the midst of writing: no broken entry")
    assert halves > 0
