"""A run as Markdown: what it says, that names in it do nothing, and that it fits."""

import html
import re

import pytest

from pytest_cnnaudit.gallery.markdown import (
    COMMENT_LIMIT,
    MARKER,
    STEP_SUMMARY_LIMIT,
    pull_request_report,
    summary_table,
    verdict,
    worst_first,
    write_pull_request_report,
)

RUN = {
    "status": "finished",
    "notes": [],
    "exit_status": 1,
    "duration": 12.4,
    "seed": 0,
    "device": "cpu",
    "command": "pytest --cnnaudit",
    "versions": {"torch": "2.9"},
    "started": "2026-01-01T00:00:00+00:00",
}
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</code></summary></details><script>alert(1)</script>",
    "a|b",
    "\\|",
    "`c` ``d``",
    "*b* _i_ __u__ **x** ~~s~~",
    "[l](https://e.vil) ![p](https://e.vil/x.png)",
    "http://e.vil www.e.vil WWW.e.vil <https://e.vil> a@b.com",
    "@octocat #12 o/r#3",
    "one\ntwo\r\n# h\n- x\n| | |\n```",
    "&lt;b&gt; &amp; &",
    "$x$",
    "\x00\x1b[31m\u202e",
]


def metric(value=0.31, *limits, name="robust accuracy", ci95=(0.27, 0.36), better=True, before=None, unit=""):
    return {
        "name": name,
        "value": value,
        "display": "not a number" if value is None else f"{value:.2f}",
        "unit": unit,
        "ci95": ci95 and list(ci95),
        "higher_is_better": better,
        "baseline": before and {"value": before[0], "display": f"{before[0]:.2f}", "ci95": None, "of": before[1]},
        "thresholds": [{"op": op, "value": limit, "holds": holds, "on": on} for op, limit, holds, on in limits],
    }


def record(outcome, *metrics, id="test_a.py::test_it", message="", model="resnet20"):
    return {
        "id": id,
        "outcome": outcome,
        "message": message,
        "model": model and {"name": model, "module": "ResNet", "digest": "0123456789abcdef"},
        "measurements": [{"name": "attack", "metrics": list(metrics), "cost": {"forward": 30, "backward": 12}}]
        * bool(metrics),
    }


MISSED = metric(0.31, (">=", 0.35, False, ""))
HELD = metric(0.8, (">=", 0.35, True, ""), ci95=(0.75, 0.85))


def rows(text):
    return [
        line for line in text.splitlines() if line.startswith("| ") and "---" not in line and "| Audit |" not in line
    ]


# What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcomes", "expected"),
    [
        ("finished", ["failed", "passed", "skipped"], ("❌", "1 of 2 audits fell short")),
        ("finished", ["failed", "error"], ("❌", "1 of 2 audits fell short, 1 could not finish")),
        ("finished", ["crashed", "passed"], ("⚠️", "1 of 2 audits could not finish")),
        ("finished", ["passed", "passed"], ("✅", "All 2 audits passed")),
        ("finished", ["passed"], ("✅", "The only audit passed")),
        ("finished", ["passed", "xfailed"], ("✅", "1 of 2 audits passed")),
        ("finished", ["passed", "xpassed"], ("⚠️", "1 of 2 audits passed")),
        ("interrupted", ["passed", "passed"], ("⚠️", "All 2 audits that ran passed")),
        ("running", ["failed"], ("❌", "1 of 1 audit fell short so far")),
        ("finished", ["skipped"], ("⚠️", "Nothing was measured")),
        ("finished", [], ("⚠️", "Nothing was measured")),
    ],
)
def test_the_verdict_is_the_page_s(status, outcomes, expected):
    assert verdict({"status": status}, [record(each, HELD) for each in outcomes]) == expected


def test_an_audit_is_a_line_with_value_interval_and_threshold():
    (row,) = rows(summary_table(RUN, [record("failed", MISSED, HELD)]))
    assert row == (
        "| ❌ fell short | <code>test_a.py::test_it</code> "
        "| robust accuracy <b>0.31</b> (0.27–0.36) ≥ 0.35, <b>missed by 0.04</b>, a close call"
        "<br>robust accuracy <b>0.80</b> (0.75–0.85) ≥ 0.35 | <code>resnet20</code> |"
    )


def test_a_miss_beyond_the_interval_is_no_close_call():
    far = metric(0.31, (">=", 0.37, False, ""))
    assert "missed by 0.06</b> |" in summary_table(RUN, [record("failed", far)])


def test_a_metric_may_have_several_thresholds_and_no_interval():
    several = metric(0.31, (">=", 0.2, True, ""), (">=", 0.3, False, "lower end"))
    shown = summary_table(RUN, [record("failed", several, metric(None, ("<", 3, False, ""), ci95=None))])
    assert "≥ 0.2; lower end ≥ 0.3, <b>missed by 0.03</b><br>" in shown
    assert "robust accuracy <b>not a number</b> &#60; 3, <b>missed</b> |" in shown


def test_without_a_threshold_the_headline_is_shown_and_without_a_figure_the_reason():
    text = summary_table(
        RUN, [record("passed", metric(0.5), HELD | {"thresholds": []}), record("error", message="no layer\nx")]
    )
    error, measured = rows(text)
    assert measured.count("<b>") == 1
    assert "| No verdict: no layer. |" in error


def test_the_worst_comes_first():
    near, far = metric(0.31, (">=", 0.35, False, "")), metric(0.31, (">=", 0.9, False, ""))
    tests = [
        record("skipped", id="skipped"),
        record("passed", HELD, id="comfortable"),
        record("passed", metric(0.36, (">=", 0.35, True, "")), id="barely"),
        record("xfailed", far, id="expected"),
        record("error", id="error"),
        record("failed", near, id="near"),
        record("xpassed", HELD, id="surprise"),
        record("failed", far, id="far"),
    ]
    order = ["far", "near", "error", "surprise", "expected", "barely", "comfortable", "skipped"]
    assert [each["id"] for each in worst_first(tests)] == order
    shown = [re.match(r"\| [^|]* \| <code>(\w+)</code> \|", row)[1] for row in rows(summary_table(RUN, tests))]
    assert shown == order[:-1]


def test_many_metrics_of_one_audit_are_counted_and_the_missed_are_shown():
    (row,) = rows(summary_table(RUN, [record("failed", *[HELD] * 20, MISSED)]))
    assert row.index("missed by 0.04") < row.index("0.80")
    assert row.endswith("<br>and 13 more | <code>resnet20</code> |")


def test_skipped_audits_are_counted_by_reason_and_are_no_lines():
    skipped = [record("skipped", message="Skipped: no weights", id=str(each)) for each in range(3)]
    text = summary_table(RUN, [*skipped, record("skipped", message="no GPU"), record("passed", HELD)])
    assert "⏭ 4 skipped:\n\n- 3 × <code>no weights</code>\n- 1 × <code>no GPU</code>\n" in text
    assert len(rows(text)) == 1


def test_a_web_address_is_linked_and_each_audit_in_it():
    text = summary_table(RUN, [record("passed", HELD, id="a.py::test[x(1) %2]")], "https://ci.example/a b/index.html")
    assert "[the gallery](https://ci.example/a%20b/index.html)" in text
    assert "](https://ci.example/a%20b/index.html#a.py::test%5Bx%281%29%20%252%5D) |" in text
    assert "The pictures are in <code>cnnaudit-report/index.html</code>." in summary_table(
        RUN, [], "cnnaudit-report/index.html"
    )


def test_a_run_that_is_not_clean_says_so():
    assert "- ⚠️ It was cut short.\n" in summary_table({**RUN, "notes": ["It was cut short."]}, [record("passed", HELD)])
    assert "exit status 1, although no audit failed" in summary_table(RUN, [record("passed", HELD)])
    assert "although" not in summary_table(RUN, [record("failed", MISSED)])
    assert "although" not in summary_table({**RUN, "exit_status": 0}, [record("passed", HELD)])


# For a pull request ----------------------------------------------------------------------------------------------


def test_a_report_has_marker_verdict_table_failures_and_facts():
    text = pull_request_report(
        RUN, [record("passed", HELD), record("failed", MISSED, message="assert 0.31 >= 0.35\n  why")]
    )
    assert text.startswith(f"{MARKER}\n### ❌ 1 of 2 audits fell short\n")
    assert len(rows(text)) == 2
    assert text.count("<details><summary>❌ fell short: <code>test_a.py::test_it</code></summary>") == 1
    assert "Robust accuracy is 0.31, 0.04 below" in text
    assert "```text\nassert 0.31 >= 0.35\n  why\n```\n" in text
    assert "- Models: <code>resnet20</code> <code>0123456789ab</code>\n" in text
    assert "- Passes: 60 forward, 24 backward\n" in text
    assert text.count("<details>") == text.count("</details>") == 2


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (metric(0.31, before=(0.45, "last release")), "| 0.45 (last release) | 0.31 | −0.14 worse |"),
        (metric(0.31, before=(0.25, "last release")), "| 0.25 (last release) | 0.31 | +0.06 better |"),
        (metric(0.31, before=(0.35, "main")), "| 0.35 (main) | 0.31 | −0.04 worse, within the interval |"),
        (metric(0.31, before=(0.45, "main"), better=False), "| −0.14 better |"),
        (metric(0.31, before=(0.45, "main"), better=None, ci95=None), "| −0.14 |"),
    ],
)
def test_changes_are_told_with_their_direction(now, expected):
    assert expected in pull_request_report(RUN, [record("passed", now)])


def test_the_worst_change_is_first_and_the_unchanged_are_counted():
    shares = {"little": 0.33, "better": 0.2, "much": 0.6, "same": 0.31}
    metrics = [metric(0.31, name=name, before=(value, "main")) for name, value in shares.items()]
    text = pull_request_report(RUN, [record("passed", *metrics), record("passed", metric(0.5))])
    assert "3 of 4 figures changed." in text
    assert re.findall(r"\| (little|better|much|same) \|", text) == ["much", "little", "better"]
    assert "baseline" not in pull_request_report(RUN, [record("passed", metric(0.5))])


def test_it_is_written_beside_the_report(tmp_path):
    write_pull_request_report(tmp_path, RUN, [record("failed", MISSED, id="\ud800")])
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith(MARKER)


# Names do nothing -------------------------------------------------------------------------------------------------

OUR_TAGS = r"</?(?:code|b|details|summary)>|<br>"


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize("link", ["", "https://ci.example/index.html"])
def test_names_reasons_and_notes_are_text(evil, link):
    hurt = metric(0.31, (">=", 0.35, False, evil), name=evil, unit=evil, before=(0.4, evil)) | {"display": evil}
    hurt["baseline"]["display"] = evil
    tests = [record(each, hurt, id=evil, message="", model=evil) for each in ("failed", "passed")]
    skipped = record("skipped", id=evil, message=evil)
    run = {**RUN, "notes": [evil], "device": evil, "command": evil, "versions": {evil: evil}, "started": evil}
    text = pull_request_report(run, [*tests, skipped], link).removeprefix(MARKER)
    unlinked = re.sub(r"\[(<code>.*?</code>|the gallery)\]\(https://ci\.example/index\.html[^()\s]*\)", r"\1", text)
    bare = re.sub(OUR_TAGS, "", unlinked)
    plain = re.sub(r"&#\d+;", "", bare)
    assert not re.search(r"[<>`*~\[\]\\$@!\"']", plain)
    assert not re.search(r"&(?!#\d+;)", bare)
    assert set(re.findall("#+", plain)) == {"###", "####"}
    assert [row.count("|") for row in rows(text)] == [5, 5, 6, 6]
    read = html.unescape(bare)
    assert not re.search(r"(?i)[@#](?=\w)|://|www\.", read)
    assert all(each.isprintable() or each in "\n\u200b" for each in read)


@pytest.mark.parametrize("evil", ["```", "a\n`````\n</details>\n# h", "~~~\n```text\n````", "\r```\r", *HOSTILE])
def test_a_message_stays_in_its_fence(evil):
    text = pull_request_report(RUN, [record("failed", MISSED, message=f"assert\n{evil}\nend")])
    lines = iter(text.split("<details><summary>❌", 1)[1].splitlines())
    fence = next(line for line in lines if line.startswith("```")).removesuffix("text")
    inside = []
    for line in lines:
        if re.fullmatch(f"{fence}`*", line.strip()):
            break
        inside.append(line)
    assert inside[0] == "assert"
    assert inside[-1] == "end"
    assert len(inside) == len(f"assert\n{evil}\nend".splitlines())
    assert "\r" not in text
    assert "\x00" not in text
    assert next(line for line in lines if line) == "</details>"


# Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "limit"), [(summary_table, STEP_SUMMARY_LIMIT), (pull_request_report, COMMENT_LIMIT)])
def test_what_is_too_long_loses_the_best_first_and_says_how_many(make, limit):
    worst = record("failed", metric(0.0, (">=", 0.9, False, "")), id="test_a.py::test_worst", message="x" * 3000)
    tests = [record("failed", MISSED, id=f"test_a.py::test_{each:0180}", message="m" * 3000) for each in range(4000)]
    text = make(RUN, [*tests, worst])
    assert limit * 0.5 < len(text.encode()) <= limit
    assert "test_worst" in rows(text)[0]
    (left,) = re.findall(r"and ([\d,]+) more audits", text)
    assert len(rows(text)) + int(left.replace(",", "")) == 4001
    if make is pull_request_report:
        assert "<details><summary>❌ fell short: <code>test_a.py::test_worst" in text
        (left,) = re.findall(r"and ([\d,]+) more messages", text)
        assert text.count("<details><summary>❌") + int(left.replace(",", "")) == 4001
        assert text.count("<details>") == text.count("</details>")


def test_the_longest_names_fit_too():
    """Every character of an address or a mention takes eight bytes."""
    evil = "@" * 10_000
    run = {**RUN, "notes": [evil + str(each) for each in range(100)], "command": evil, "device": evil}
    tests = [
        record(
            outcome,
            metric(0.31, name=evil, before=(0.4, evil)),
            id=evil,
            message=f"{each} {evil}",
            model=f"{each} {evil}",
        )
        for each in range(100)
        for outcome in ("failed", "skipped")
    ]
    text = pull_request_report(run, tests)
    assert len(text.encode()) <= COMMENT_LIMIT
    assert "100 of 100 audits fell short" in text
    assert "and 90 more reasons" in text
