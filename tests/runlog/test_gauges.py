"""The training gauges, and the dashboard and scrape configuration that belong to them."""

import json
import math
import re
from pathlib import Path

import yaml

from verl_vaopd.runlog import gauges
from verl_vaopd.runlog.gauges import METRICS, PHASE_SECONDS, TrainingGauges

MONITORING = Path(__file__).parents[2] / "scripts" / "monitoring"
NAMES = {each.gauge for each in METRICS} | {PHASE_SECONDS}


def test_the_dashboard_shows_every_gauge_and_no_other():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {re.match(r"ray_(\w+){run=~\"\$run\"}$", expression).group(1) for expression in shown} == NAMES
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert {each["name"] for each in dashboard["templating"]["list"]} == {"datasource", "run"}


def test_prometheus_reads_the_file_in_which_ray_lists_its_nodes():
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert scrape["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]


def test_a_gauge_keeps_its_value_when_the_next_is_not_finite(monkeypatch):
    shown = {}

    class Gauge:
        def __init__(self, name, text, tag_keys):
            self.name = name

        def set_default_tags(self, tags):
            pass

        def set(self, value, tags=None):
            shown[self.name] = value

    monkeypatch.setattr(gauges, "Gauge", Gauge)
    training = TrainingGauges(run="run")
    training.set({"step": 1, "loss": 0.5, "grad_norm": 1.0})
    training.set({"step": 2, "loss": math.nan, "grad_norm": math.inf})
    assert shown == {"vaopd_step": 2, "vaopd_loss": 0.5, "vaopd_grad_norm": 1.0}
