"""What changed between two runs, and the report that shows both."""

import copy
import json
import shutil

import pytest

from pytest_cnnaudit.gallery import ReportFolderError
from pytest_cnnaudit.gallery.beside import write_comparison
from pytest_cnnaudit.gallery.compare import compare, read_both
from pytest_cnnaudit.gallery.read import StoredReport, read_report

ATTACK = "test_audit.py::test_attack[100%]"


def metric(value, *, name="robust accuracy", ci95=None, higher_is_better=True, unit=""):
    return {"name": name, "value": value, "display": f"{value}", "unit": unit, "ci95": ci95,
            "higher_is_better": higher_is_better, "thresholds": []}  # fmt: skip


def measured(*metrics, name="attack", exhibits=(), **more):
    return {"name": name, "settings": {}, "notes": [], "metrics": list(metrics), "exhibits": list(exhibits), **more}


def a_record(*measurements, name="test_a", outcome="passed", samples=None):
    return {"id": name, "outcome": outcome, "samples": samples, "measurements": list(measurements)}


def stored(tmp_path, *tests, name="run"):
    return StoredReport(tmp_path / name, {"notes": []}, list(tests))


@pytest.fixture
def change_of(tmp_path):
    """The change of the one metric of two tests."""

    def change_of(old, new):
        comparison = compare(stored(tmp_path, old), stored(tmp_path, new))
        [change] = comparison.tests[0].metrics
        return change

    return change_of


# Verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (metric(0.5), metric(0.6), "better"),
        (metric(0.5), metric(0.4), "worse"),
        (metric(0.5, higher_is_better=False), metric(0.6, higher_is_better=False), "worse"),
        (metric(0.5, higher_is_better=False), metric(0.4, higher_is_better=False), "better"),
        (metric(0.5, higher_is_better=None), metric(0.4, higher_is_better=None), "changed"),
        (metric(0.5), metric(0.5), "same"),
        (metric(0.0), metric(0.0), "same"),
        (metric(0.5), metric(0.5 + 1e-8), "same"),
        (metric(0.5), metric(0.501), "better"),
        (metric(0.5, ci95=[0.4, 0.6]), metric(0.45, ci95=[0.35, 0.55]), "within the interval"),
        (metric(0.5, ci95=[0.4, 0.6]), metric(0.35, ci95=[0.28, 0.42]), "worse"),  # although the intervals overlap
        (metric(0.5, ci95=[0.4, 0.6]), metric(0.39, ci95=[0.3, 0.48]), "within the interval"),  # out of the old
        (metric(0.5, ci95=[0.4, 0.6]), metric(0.45), "within the interval"),
        (metric(0.5, ci95=[0.4, 0.6]), metric(0.35), "worse"),
        (metric(0.5, ci95=[None, 0.6]), metric(0.45, ci95=[0.3, 0.6]), "within the interval"),
        (metric(None), metric(0.5), "not comparable"),
        (metric(0.5), metric(0.5, unit="s"), "not comparable"),
    ],
)
def test_a_change_is_judged_by_its_direction_and_its_interval(change_of, old, new, verdict):
    assert change_of(a_record(measured(old)), a_record(measured(new))).verdict == verdict


def test_a_change_is_new_minus_old_and_its_gain_counts_interval_widths(change_of):
    change = change_of(
        a_record(measured(metric(0.5, ci95=[0.4, 0.6]))), a_record(measured(metric(0.1, ci95=[0.0, 0.4])))
    )
    assert change.change == pytest.approx(-0.4)
    assert change.gain == pytest.approx(-0.4 / 0.3)
    assert change_of(a_record(measured(metric(4))), a_record(measured(metric(5)))).gain == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"settings": {"eps": "4/255"}}, {"settings": {"eps": "8/255"}}, "eps 4/255 → 8/255"),
        ({"settings": {"attack": "pgd"}}, {}, "attack pgd → not set"),
        ({"complete": True}, {"complete": False}, "an early verdict left bounds in NEW"),
        ({"complete": False}, {}, "an early verdict left bounds in OLD"),
    ],
)
def test_what_was_measured_otherwise_is_told_and_not_judged(change_of, old, new, reason):
    change = change_of(a_record(measured(metric(0.5), **old)), a_record(measured(metric(0.4), **new)))
    assert (change.verdict, change.reasons) == ("not comparable", (reason,))


def test_another_seed_is_told_and_judged(change_of):
    old, new = (measured(metric(value), settings={"seed": seed}) for value, seed in ((0.5, "0"), (0.4, "7")))
    change = change_of(a_record(old), a_record(new))
    assert (change.verdict, change.reasons) == ("worse", ("seed 0 → 7",))


@pytest.mark.parametrize(
    ("old", "new", "reasons"),
    [
        ({"n": 8, "digest": "ab"}, {"n": 8, "digest": "ab"}, ()),
        ({"n": 8, "digest": "ab"}, {"n": 8, "digest": "cd"}, ("other samples",)),
        ({"n": 8}, {"n": 8, "digest": "cd"}, ()),  # an older report names none
        ({"n": 8}, {"n": 9}, ("samples 8 → 9",)),
        (None, {"n": 9}, ("samples none → 9",)),
        (None, None, ()),
    ],
)
def test_other_samples_are_told(change_of, old, new, reasons):
    change = change_of(a_record(measured(metric(0.5)), samples=old), a_record(measured(metric(0.4)), samples=new))
    assert change.reasons == reasons
    assert change.verdict == ("not comparable" if reasons else "worse")


# What is matched with what, and in which order ---------------------------------------------------------------------


def test_measurements_are_matched_by_name_and_order_and_metrics_by_name(tmp_path):
    old = a_record(
        measured(metric(0.1)), measured(metric(0.2)), measured(metric(0.3, name="roughness"), name="filters")
    )
    new = a_record(
        measured(metric(0.3, name="roughness"), name="filters"), measured(metric(0.1)), measured(metric(0.1))
    )
    comparison = compare(stored(tmp_path, old), stored(tmp_path, new))
    found = {change.name: change.verdict for change in comparison.tests[0].metrics}
    assert found == {
        "attack 2: robust accuracy": "worse",
        "attack 1: robust accuracy": "same",
        "filters: roughness": "same",
    }


def test_metrics_in_one_of_the_runs_are_named(tmp_path):
    old, new = (
        a_record(measured(metric(0.1), metric(0.2, name="gone"))),
        a_record(measured(metric(0.1), metric(0, name="n"))),
    )
    changes = compare(stored(tmp_path, old), stored(tmp_path, new)).tests[0].metrics
    assert [(each.name, each.verdict) for each in changes][1:] == [("gone", "only in OLD"), ("n", "only in NEW")]


def test_changed_outcomes_come_first_then_the_worst_changes(tmp_path):
    def run(outcomes, values):
        return [
            a_record(measured(metric(value)), name=name, outcome=outcome)
            for name, outcome, value in zip("abcdef", outcomes, values, strict=True)
        ]

    old = run(["passed"] * 4 + ["failed", "skipped"], [0.5] * 6)
    new = run(["passed", "failed", "passed", "passed", "passed", "skipped"], [0.4, 0.5, 0.2, 0.6, 0.5, 0.5])
    comparison = compare(stored(tmp_path, *old), stored(tmp_path, *new))
    assert [test.id for test in comparison.tests] == ["b", "e", "c", "a", "d", "f"]


def test_what_is_worse_comes_before_what_chance_explains(tmp_path):
    wide = [metric(0.5, ci95=[0.4, 0.6]), metric(0.41, ci95=[0.35, 0.55])]
    old, new = ([a_record(measured(each), name="noise"), a_record(measured(metric(v)), name="worse")]
                for each, v in zip(wide, (0.5, 0.49), strict=True))  # fmt: skip
    comparison = compare(stored(tmp_path, *old), stored(tmp_path, *new))
    assert [test.id for test in comparison.tests] == ["worse", "noise"]


def test_the_summary_counts(tmp_path):
    old = [a_record(measured(metric(0.5)), name=name) for name in "abcde"] + [a_record(name="old")]
    new = [
        a_record(measured(metric(0.4)), name="a", outcome="failed"),
        a_record(measured(metric(0.6)), name="b"),
        a_record(measured(metric(0.5)), name="c"),
        a_record(measured(metric(0.4), complete=False), name="d"),
        a_record(name="e", outcome="skipped"),
        a_record(name="x"),
        a_record(name="y"),
    ]
    assert compare(stored(tmp_path, *old), stored(tmp_path, *new)).summary == (
        "1 of 3 metrics got worse, 1 got better, 1 cannot be compared, 1 test fell short that passed, 1 test ended "
        "otherwise; 1 test is only in OLD; 2 tests are only in NEW."
    )
    assert compare(stored(tmp_path), stored(tmp_path)).summary == "None of 0 metrics got worse."


# A report of both --------------------------------------------------------------------------------------------------


def rows_of(report, name):
    test = next(test for test in report["tests"] if test["id"] == name)
    return [each for each in test["measurements"][0]["exhibits"] if each["kind"] == "rows"]


@pytest.fixture(scope="session")
def pair(report_folder, tmp_path_factory):
    """A real report, and an older one of it: other figures, other adversarial pictures, other rows."""
    folder = tmp_path_factory.mktemp("pair")
    for name in ("old", "new"):
        shutil.copytree(report_folder, folder / name)
    report = json.loads((folder / "old" / "report.json").read_text())
    report["run"]["notes"].append("an old note")
    for test in report["tests"]:
        for measurement in test["measurements"]:
            for each in measurement["metrics"]:
                if each["name"] == "robust accuracy":
                    each.update(value=1.0, display="1.00", ci95=[0.9, 1.0])
    by_id = {test["id"]: test for test in report["tests"]}
    by_id[ATTACK]["outcome"] = "passed"
    exhibit = next(each for each in rows_of(report, ATTACK) if len(each["rows"]) > 1)
    row = exhibit["rows"][0]
    row["pictures"][1]["src"] = "images/of-the-old.png"
    shutil.copy(folder / "old" / row["pictures"][0]["src"], folder / "old" / "images" / "of-the-old.png")
    row["figures"]["‖δ‖"], row["status"] = "7/255", "robust"
    gone = exhibit["rows"].pop()  # only in the new run
    exhibit["rows"].append({**copy.deepcopy(gone), "title": "of the old"})
    by_id["test_audit.py::test_saliency"]["samples"]["digest"] = "0" * 16
    del report["tests"][report["tests"].index(by_id["test_audit.py::test_filters"])]
    report["tests"].append({**by_id["test_audit.py::test_skipped"], "id": "test_audit.py::test_gone"})
    (folder / "old" / "report.json").write_text(json.dumps(report))
    comparison = read_both(folder / "old", folder / "new")
    write_comparison(comparison, folder / "both")
    return folder, exhibit["title"], gone["title"]


def test_figures_of_the_old_run_are_baselines(pair):
    both, new = (json.loads((pair[0] / name / "report.json").read_text()) for name in ("both", "new"))
    found = {}
    for test, own in zip(both["tests"], new["tests"], strict=True):
        assert test["id"] == own["id"]
        for measurement, other in zip(test["measurements"], own["measurements"], strict=True):
            for each, plain in zip(measurement["metrics"], other["metrics"], strict=True):
                found[test["id"], each["name"]] = each["baseline"]
                assert {**each, "baseline": None} == plain
    assert found[ATTACK, "robust accuracy"] == {"value": 1.0, "display": "1.00", "ci95": [0.9, 1.0], "of": "old"}
    assert all(found[key] is None for key in found if "test_filters" in key[0])  # is only in the new run
    assert all(found[key] is None for key in found if "test_saliency" in key[0])  # was measured on other samples
    saliency = next(test for test in both["tests"] if "test_saliency" in test["id"])
    assert "Measured otherwise in old: other samples." in saliency["measurements"][0]["notes"]


def test_the_notes_say_what_was_compared(pair):
    run = json.loads((pair[0] / "both" / "report.json").read_text())["run"]
    assert run["notes"][0].startswith("new compared with old. 4 of ")
    assert "1 test fell short that passed" in run["notes"][0]
    assert "Only in old: test_audit.py::test_gone." in run["notes"]
    assert "Only in new: test_audit.py::test_filters." in run["notes"]


def test_rows_show_the_pictures_of_both_runs(pair):
    folder, title, _ = pair
    old, new, both = (json.loads((folder / name / "report.json").read_text()) for name in ("old", "new", "both"))
    before, after, beside = (next(x for x in rows_of(each, ATTACK) if x["title"] == title) for each in (old, new, both))
    assert beside["columns"] == [
        "clean", "adversarial (old)", "difference (old)", "10× difference (old)",
        "adversarial", "difference", "10× difference",
    ]  # fmt: skip
    assert [row["title"] for row in beside["rows"]] == [row["title"] for row in after["rows"]][:-1]
    first = beside["rows"][0]
    assert first["pictures"] == [*after["rows"][0]["pictures"][:1], *before["rows"][0]["pictures"][1:],
                                 *after["rows"][0]["pictures"][1:]]  # fmt: skip
    assert first["figures"]["‖δ‖ before"] == "7/255"
    assert first["figures"]["‖δ‖"] == after["rows"][0]["figures"]["‖δ‖"]
    assert first["figures"]["before"] == "robust"
    assert list(first["figures"]).count("label before") == 0  # said once, where it is the same
    assert not any("before" in name for name in beside["rows"][1]["figures"])


def test_rows_of_one_run_follow_with_their_own_columns(pair):
    folder, title, gone = pair
    both, new = (json.loads((folder / name / "report.json").read_text()) for name in ("both", "new"))
    exhibits = {each["title"]: each for each in rows_of(both, ATTACK)}
    after = next(each for each in rows_of(new, ATTACK) if each["title"] == title)
    for word, name in (("only in the new run", gone), ("only in the old run", "of the old")):
        exhibit = exhibits[f"{title}, {word}"]
        assert [row["title"] for row in exhibit["rows"]] == [name]
        assert exhibit["columns"] == after["columns"]
        assert len(exhibit["rows"][0]["pictures"]) == len(after["columns"])


def rows(columns, **sources):
    return {"kind": "rows", "title": "t", "text": "", "columns": columns, "rows": [
        {"title": title, "status": "", "figures": {}, "pictures": [{"src": src} for src in names.split()]}
        for title, names in sources.items()]}  # fmt: skip


def beside(tmp_path, old, new):
    """The exhibits of two runs' report, of one exhibit each."""
    reports = []
    for name, exhibit in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        run = {"notes": [], "status": "finished", "versions": {}}
        test = a_record(measured(metric(0.5), exhibits=[exhibit]))
        reports.append(StoredReport(tmp_path / name, run, [test]))
    write_comparison(compare(*reports), tmp_path / "both")
    exhibits = json.loads((tmp_path / "both" / "report.json").read_text())["tests"][0]["measurements"][0]["exhibits"]
    return [
        (each["title"], each["columns"], [[x["src"] for x in row["pictures"]] for row in each["rows"]])
        for each in exhibits
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (  # another first picture in one row: both, throughout
            rows(["a", "b"], one="x 1", two="y 2"),
            rows(["a", "b"], one="x 3", two="z 4"),
            [("t", ["a (old)", "b (old)", "a", "b"], [["x", "1", "x", "3"], ["y", "2", "z", "4"]])],
        ),
        (
            rows(["a", "b"], one="x 1"),
            rows(["a", "c", "d"], one="x 3 4"),
            [("t", ["a", "b (old)", "c", "d"], [["x", "1", "3", "4"]])],
        ),
        (rows([], one="1 2"), rows([], one="3 4"), [("t", ["old", "old", "new", "new"], [["1", "2", "3", "4"]])]),
        (  # a row that lacks a picture would shift the others under wrong names
            rows(["a", "b"], one="x"),
            rows(["a", "b"], one="x 3"),
            [
                ("t, only in the new run", ["a", "b"], [["x", "3"]]),
                ("t, only in the old run", ["a", "b"], [["x"]]),
            ],
        ),
        (rows(["a"]), rows(["a"]), []),
    ],
)
def test_columns_fit_the_pictures_under_them(tmp_path, old, new, expected):
    assert beside(tmp_path, old, new) == expected


def test_an_exhibit_of_the_new_run_alone_stays_as_it_is(tmp_path):
    old, new = rows(["a"], one="1"), {**rows(["a"], one="2"), "title": "other"}
    assert beside(tmp_path, old, new) == [("other", ["a"], [["2"]])]


def test_what_lies_in_the_way_is_refused(pair):
    folder = pair[0]
    comparison = read_both(folder / "old", folder / "new")
    for out in ("old", "new"):
        with pytest.raises(ReportFolderError, match="one of the reports that are read"):
            write_comparison(comparison, folder / out)


def test_the_report_of_both_has_every_picture_and_can_be_compared_again(pair):
    folder = pair[0]
    assert (folder / "both" / "images" / "of-the-old.png").exists()
    run = read_report(folder / "both").run
    assert not any("missing" in note for note in run["notes"])
    assert read_both(folder / "new", folder / "both").summary.startswith("None of ")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_report_of_both_opens(pair, open_page, width, scheme, broken_images):
    folder, title, _ = pair
    url = (folder / "both" / "index.html").as_uri()
    page = open_page(url, width=width, scheme=scheme)
    assert page.locator(".test-link").count() == 9
    assert "new compared with old" in page.locator("main").inner_text().lower()
    page.goto(f"{url}#{ATTACK.replace('%', '%25')}")
    page.locator(".test-page").wait_for()
    assert broken_images(page) == [True, []]
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    exhibit = page.locator(".exhibit", has=page.get_by_role("heading", name=title, exact=True))
    assert "adversarial (old)" in exhibit.text_content()
    assert exhibit.locator("li").first.locator("img").count() == 7
    assert exhibit.locator("img[src='images/of-the-old.png']").count() == 1
