"""What other reports show of an audit: JUnit's XML, pytest-html's page, and GitHub. Suites run in this process."""

import html
import json
import re
import textwrap
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import pytest_cnnaudit.audit
import pytest_cnnaudit.gallery  # noqa: F401
from pytest_cnnaudit.alongside import html_extras, junit_properties
from pytest_cnnaudit.gallery import images

CONFTEST = (Path(__file__).parent / "audits" / "tiny_suite.py").read_text()
EVIL = "<img src=x onerror=alert(1)>\"'../"
ATTACK = """
    def test_attack(audit):
        assert audit.attack(eps=0.12, attack="fgsm").robust_accuracy >= 0.75
"""
HOSTILE = f"""
    import pytest
    from pytest_cnnaudit import AuditModel, Samples
    from conftest import TinyNet, quadrant_images

    EVIL = {EVIL!r}

    @pytest.fixture(scope="session")
    def audit_model():
        return AuditModel(TinyNet().eval(), class_names=[EVIL + str(each) for each in range(4)], name=EVIL)

    @pytest.fixture(scope="session")
    def audit_samples():
        images, labels, boxes = quadrant_images()
        return Samples.from_tensors(images, labels, boxes=boxes, ids=[EVIL + str(each) for each in range(8)])

    @pytest.mark.parametrize("name", [EVIL])
    def test_attack(audit, name):
        found = audit.attack(eps=0.12, attack="fgsm")
        assert found.robust_accuracy >= 0.75

    def test_filters(audit):
        audit.filters()

    @pytest.mark.skip(reason=EVIL)
    def test_skipped(audit):
        pass

    def test_other():
        pass
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs test_audit.py (dedented) of the tiny suite with --cnnaudit; warnings are errors there too."""
    pytester.makeconftest(CONFTEST)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)

    def run(tests, *args):
        pytester.makepyfile(test_audit=textwrap.dedent(tests))
        return pytester.runpytest_inprocess("--cnnaudit", "-Werror", "-p", "no:cacheprovider", *args)

    return run


# JUnit ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def properties(pytester):
    """The properties of each test case of junit.xml."""

    def read():
        cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
        return {
            case.get("name"): [(each.get("name"), each.get("value")) for each in case.findall("properties/property")]
            for case in cases
        }

    return read


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_metrics_are_properties_of_the_test_case(run, properties, family):
    run(ATTACK + "    def test_other(): pass\n", "--junitxml=junit.xml", "-o", f"junit_family={family}")
    found = properties()
    assert found["test_other"] == []
    assert found["test_attack"][:3] == [
        ("cnnaudit.attack.robust accuracy", "0.5"),
        ("cnnaudit.attack.robust accuracy.ci95", "0.215216 to 0.784784"),
        ("cnnaudit.attack.robust accuracy.threshold", "≥ 0.75 (missed)"),
    ]


def test_what_comes_again_has_a_number(run, properties):
    run(
        """
        def test_both(audit, record_property):
            record_property("mine", 1)
            audit.attack(eps=0.12, attack="fgsm")
            audit.attack(eps=0.01, attack="fgsm")
        """,
        "--junitxml=junit.xml",
        "-o",
        "junit_family=xunit1",
    )
    found = dict(properties()["test_both"])
    assert len(found) == len(properties()["test_both"])
    assert found["mine"] == "1"
    assert found["cnnaudit.attack 2.robust accuracy"] == found["cnnaudit.attack.clean accuracy"] == "1"


def test_subtests_leave_each_metric_once(run, properties):
    run(
        """
        def test_layers(audit, subtests):
            for number in range(3):
                with subtests.test(str(number)):
                    audit.filters()
        """,
        "--junitxml=junit.xml",
    )
    names = [name for name, _ in properties()["test_layers"]]
    assert len(names) == len(set(names))
    assert "cnnaudit.filters 3.roughness" in names


def test_without_junit_nothing_is_said_of_properties(run):
    assert "cnnaudit.attack" not in run(ATTACK).stdout.str()


def test_names_that_xml_cannot_hold_are_replaced():
    metric = {
        "name": "accuracy of \x00\ud800<b>",
        "value": None,
        "display": "not a number",
        "ci95": None,
        "thresholds": [],
    }
    record = {"measurements": [{"name": "attack", "metrics": [metric, metric]}]}
    name = "cnnaudit.attack.accuracy of ��<b>"
    assert junit_properties(record) == [(name, "not a number"), (f"{name} 2", "not a number")]


# pytest-html ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(pytester, browser):
    """Opens a page of pytest-html in Chromium with all its rows open; gives what each row shows."""
    pytest.importorskip("pytest_html", reason="pytest-html is not installed")

    def rows(page_file):
        heard = []
        page = browser.new_page()
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("requestfailed", lambda request: heard.append(request.url))
        page.goto(page_file.as_uri())
        page.click("#show_all_details")
        page.wait_for_function("[...document.querySelectorAll('.extraHTML img')].every((image) => image.complete)")
        found = page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll('tbody.results-table-row')].map((row) => [
              row.querySelector('.col-testId').textContent,
              {
                text: row.querySelector('.extraHTML').innerText,
                widths: [...row.querySelectorAll('.extraHTML img')].map((image) => image.naturalWidth),
                sources: [...row.querySelectorAll('.extraHTML img')].map((image) => image.src),
                links: [...row.querySelectorAll('.col-links a')].map((link) => link.href),
                tags: [...row.querySelectorAll('.extraHTML *, .col-testId *')].map((each) => each.localName),
              },
            ]))"""
        )
        for row in found.values():  # what is linked is there: the gallery opens at the test
            for link in row["links"]:
                page.goto(link)
                row["opened"] = page.title()
        page.close()
        assert heard == []
        return found

    return rows


@pytest.mark.parametrize("args", [(), ("--self-contained-html",)], ids=["linked", "self-contained"])
def test_a_row_shows_figures_pictures_and_a_link(run, pytester, rows, args):
    result = run(HOSTILE, "--html=pages/page.html", *args)
    result.assert_outcomes(failed=1, passed=2, skipped=1)
    shown = rows(pytester.path / "pages" / "page.html")
    attack = shown[f"test_audit.py::test_attack[{EVIL}]"]
    assert "Robust accuracy is 0.50, 0.25 below the required 0.75" in attack["text"]
    assert re.search(r"robust accuracy\s+0\.50\s+0\.215 to 0\.785\s+≥ 0\.75 \(missed\)", attack["text"])
    assert EVIL in attack["text"]  # a caption: the class
    assert attack["opened"].startswith("test_attack")
    assert shown["test_audit.py::test_filters"]["opened"].startswith("test_filters")
    assert len(attack["widths"]) == 4
    assert all(width > 0 for row in shown.values() for width in row["widths"])
    start = "data:image/png;base64," if args else (pytester.path / "cnnaudit-report" / "images").as_uri()
    assert all(source.startswith(start) for row in shown.values() for source in row["sources"])
    assert {tag for row in shown.values() for tag in row["tags"]} <= {
        "div", "p", "a", "span", "img", "br", "b", "table", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert "Not run" in shown["test_audit.py::test_skipped::setup"]["text"]
    assert shown["test_audit.py::test_other"]["links"] == []


def test_a_page_that_holds_all_waits_for_pictures_that_are_still_being_written(run, pytester, monkeypatch):
    pytest.importorskip("pytest_html", reason="pytest-html is not installed")
    write = images._write
    monkeypatch.setattr(images, "_write", lambda *args: (time.sleep(0.3), write(*args)))
    run(ATTACK, "--html=page.html", "--self-contained-html")
    assert (pytester.path / "page.html").read_text().count("data:image/png;base64,") == 4


def test_extras_of_others_stay(run, pytester):
    pytest.importorskip("pytest_html", reason="pytest-html is not installed")
    run(
        """
        from pytest_html import extras as kinds

        def test_filters(audit, extras):
            extras.append(kinds.url("https://example.org", name="mine"))
            audit.filters()
        """,
        "--html=page.html",
    )
    page = (pytester.path / "page.html").read_text()
    assert page.index("mine&lt;/a&gt;") < page.index("cnnaudit&lt;/a&gt;")


def test_an_id_that_pytest_html_cannot_read_ends_no_run(run, pytester):
    pytest.importorskip("pytest_html", reason="pytest-html is not installed")
    option = "disable_test_id_escaping_and_forfeit_all_rights_to_community_support=true"
    tests = """
        import pytest

        @pytest.mark.parametrize("name", [r"\\xz", r"\\d"])
        def test_filters(audit, name):
            audit.filters()
    """
    run(tests, "--html=page.html", "-o", option).assert_outcomes(passed=2)
    assert (pytester.path / "page.html").is_file()


def _record(*measurements):
    return {"id": "test_a.py::test_it", "outcome": "failed", "message": "", "measurements": list(measurements)}


def _measurement(*exhibits, holds=True):
    limit = {"op": ">=", "value": 0.5, "holds": holds, "on": ""}
    metric = {"name": "accuracy", "value": 0.4, "display": "0.40", "unit": "", "ci95": None, "thresholds": [limit]}
    return {"name": "attack", "metrics": [metric], "exhibits": list(exhibits)}


def _exhibit(kind, *rows):
    picture = {"caption": "", "alt": "", "pixelated": True}
    return {
        "kind": kind,
        "rows": [{"pictures": [picture | {"src": f"images/{name}.png"} for name in row]} for row in rows],
    }


@pytest.mark.parametrize(
    ("measurements", "expected"),
    [
        ([_measurement(_exhibit("grid", "a", "b"), _exhibit("rows", "cd", "ef"))], "cd"),
        ([_measurement(_exhibit("rows", "ab")), _measurement(_exhibit("grid", "c", "d"), holds=False)], "cd"),
        (
            [_measurement({"kind": "chart"}, {"kind": "table", "rows": [{"cells": []}]}, _exhibit("grid", *"abcdef"))],
            "abcd",
        ),
        ([_measurement(_exhibit("rows", "abcdef"))], "abcd"),
        ([_measurement(_exhibit("rows"))], ""),
        ([], ""),
    ],
    ids=["rows", "missed", "grid", "long", "empty", "nothing"],
)
def test_the_pictures_that_tell_most_are_shown(tmp_path, measurements, expected):
    (extra, link) = html_extras(_record(*measurements), tmp_path / "r#1", tmp_path / "page.html", self_contained=False)
    assert "".join(re.findall(r'src="r%231/images/(\w)\.png"', extra["content"])) == expected
    assert link["content"] == "r%231/index.html#test_a.py%3A%3Atest_it"


def test_a_picture_that_is_not_there_is_left_out_of_a_page_that_holds_all(tmp_path):
    record = _record(_measurement(_exhibit("rows", "ab")))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.png").write_bytes(b"pixels")
    (extra, _) = html_extras(record, tmp_path, tmp_path / "page.html", self_contained=True)
    assert re.findall(r'src="(.*?)"', extra["content"]) == ["data:image/png;base64,cGl4ZWxz"]


# All of them under xdist ------------------------------------------------------------------------------------------


def test_workers_give_what_a_serial_run_gives(run, pytester, properties, monkeypatch):
    for package in ("xdist", "pytest_html"):
        pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    found = {}
    for name, args in {"serial": (), "parallel": ("-n", "1")}.items():
        result = run(HOSTILE, "--junitxml=junit.xml", "--html=page.html", "--self-contained-html", *args)
        (blob,) = re.findall('data-jsonblob="(.*?)"', (pytester.path / "page.html").read_text())
        tests = json.loads(html.unescape(blob))["tests"]
        extras = {test: [extra["content"] for row in rows for extra in row["extras"]] for test, rows in tests.items()}
        annotations = [line for line in result.stdout.lines if line.startswith("::")]
        found[name] = (properties(), extras, annotations)
    assert found["serial"] == found["parallel"]
    metrics, extras, annotations = found["parallel"]
    assert metrics["test_filters"]
    assert "data:image/png;base64," in extras["test_audit.py::test_filters"][0]
    assert len(annotations) == 1


# GitHub ---------------------------------------------------------------------------------------------------------


def test_annotations_name_file_and_line_from_the_workspace(run, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path.parent))
    result = run(
        """
        import pytest

        def test_attack(audit):
            assert audit.attack(eps=0.12, attack="fgsm").robust_accuracy >= 0.75

        def test_error(audit): audit.attack(eps=-1)

        @pytest.mark.xfail
        def test_surprise(audit): audit.filters()
        """
    )
    file = f"{pytester.path.name}/test_audit.py"
    assert [line.split(",title=")[0] for line in result.stdout.lines if line.startswith("::")] == [
        f"::error file={file},line=3",
        f"::error file={file},line=6",
        f"::warning file={file},line=8",
    ]
    report = json.loads((pytester.path / "cnnaudit-report" / "report.json").read_text())
    assert [test["location"] for test in report["tests"]] == [
        {"file": "test_audit.py", "line": each} for each in (3, 6, 8)
    ]


@pytest.mark.parametrize("value", [None, "false"])
def test_elsewhere_nothing_is_annotated(run, monkeypatch, value):
    if value:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    assert not [line for line in run(ATTACK).stdout.lines if line.startswith("::")]


def test_the_table_goes_to_the_summary_of_the_step_and_the_whole_beside_the_report(run, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    (pytester.path / "summary.md").write_text("said before\n")
    run(ATTACK)
    summary = (pytester.path / "summary.md").read_text()
    assert summary.startswith("said before\n\n### ❌ 1 of 1 audit fell short\n")
    assert "<code>test_audit.py::test_attack</code>" in summary
    assert "The pictures are in <code>cnnaudit-report/index.html</code>" in summary
    beside = (pytester.path / "cnnaudit-report" / "report.md").read_text()
    assert beside.startswith("<!-- pytest-cnnaudit -->\n### ❌ 1 of 1 audit fell short\n")
    assert "assert robust accuracy 0.50" in beside
    assert "- Device: <code>cpu</code>" in beside  # the one that was used, not "auto"


def test_a_summary_that_cannot_be_written_is_one_line_and_fails_nothing(run, pytester, monkeypatch):
    pytester.mkdir("summary.md")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    result = run("def test_filters(audit): audit.filters()\n")
    assert result.ret == 0
    assert len([line for line in result.stdout.lines if "the summary of the step could not be written" in line]) == 1
