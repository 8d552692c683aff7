"""What is kept in the repository is what the code writes, parses, and has its pages."""

import promql_parser
from deploy.monitoring.__main__ import files
from deploy.monitoring.alerts import ALERTS
from docs.make_monitoring import page

from tests.deploy.helm.conftest import of_kind, rendered
from tests.deploy.monitoring.queries import DASHBOARD, ROOT, alert_rules, panel_queries, panels

RUNBOOKS = ROOT / "docs" / "runbooks"


def test_the_files_are_what_the_code_writes() -> None:
    """`make docs` writes them anew."""
    for path, text in files().items():
        assert path.read_text("utf-8") == text, path


def test_the_page_lists_every_alert_and_metric() -> None:
    """docs/monitoring.md has their tables as `make docs` writes them."""
    assert (ROOT / "docs" / "monitoring.md").read_text("utf-8") == page()


def test_every_query_parses() -> None:
    """Those of panels and of alerts."""
    queries = [*panel_queries(), *((rule["alert"], rule["expr"]) for rule in alert_rules())]

    for name, expr in queries:
        assert promql_parser.parse(expr) is not None, name


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """Under the same name, with what a run sees and where to look."""
    pages = {page.stem: page.read_text("utf-8") for page in RUNBOOKS.glob("*.md")}

    assert pages.keys() == {alert.name for alert in ALERTS}
    for text in pages.values():
        assert "**What a training run sees:**" in text
        assert "**Look at**" in text


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    """A severity, a sentence, and where to read on."""
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_panel_says_what_it_shows() -> None:
    """In a sentence of its own, with a unit, and no two have one name."""
    titles = [panel["title"] for panel in panels()]

    assert len(titles) == len(set(titles))
    for panel in panels():
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_do_not_lie_on_each_other() -> None:
    """Each has its own place, within Grafana's 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_charts_alerts_look_at_its_own_series() -> None:
    """Two releases in one cluster do not see each other's."""
    (rule,) = of_kind(rendered("production.yaml"), "PrometheusRule")
    shipped = {r["alert"]: r for group in rule["spec"]["groups"] for r in group["rules"]}

    assert shipped.keys() == {alert.name for alert in ALERTS}
    for one in shipped.values():
        assert "__" not in one["expr"]
        assert 'namespace="ns",service=~"t-medreward-' in one["expr"]
        assert one["annotations"]["runbook_url"].startswith("https://example.org/runbooks/")


def test_the_charts_dashboard_is_the_same() -> None:
    """As a config map that Grafana's sidecar finds."""
    maps = of_kind(rendered("production.yaml"), "ConfigMap")
    (dashboard,) = [one for one in maps if "dashboard" in str(one["metadata"])]
    (text,) = dashboard["data"].values()

    assert text.strip() == DASHBOARD.read_text("utf-8").strip()
