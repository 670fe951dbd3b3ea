"""The page of the report: what it says, that it needs nothing else, and what becomes of runs that are none."""

import html.parser
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from experiments import digits
from experiments.data import DataUnavailable, Shape, load
from experiments.report import charts, drawing, page, tables
from experiments.report.__main__ import main
from experiments.report.runs import NotARun, Run, read
from experiments.storage.workdir import create
from experiments.training import feed
from tests.experiments.test_tensorboard import RECORD

VOID = {"meta", "br", "link", "img", "hr"}


class Page(html.parser.HTMLParser):
    """Elements, text and what a browser would load, of a page whose elements are all closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text, self.loads, self.ids = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        found = [attributes.get(name) for name in ("src", "href", "xlink:href", "data", "action")]
        self.loads += [link for link in found if link and not link.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def runs(finished, tmp_path_factory):
    """Folders: of a whole run, and of its copies that lack something, with names that HTML must escape."""
    folder = tmp_path_factory.mktemp("runs")
    whole = shutil.copytree(finished("--method=saf_f").workdir, folder / "saf_f & co")
    cut = shutil.copytree(whole, folder / "cut")
    (cut / "metrics.jsonl").write_text((cut / "metrics.jsonl").read_text().splitlines()[0] + '\n{"epoch": 2, "tr')
    (cut / "summary.json").unlink()
    shutil.rmtree(cut / "checkpoints")
    broken = shutil.copytree(cut, folder / "<script>alert(1)</script>".replace("/", "_"))
    (broken / "config.json").write_text("{")
    elsewhere = shutil.copytree(whole, folder / "cifar")
    config = json.loads((elsewhere / "config.json").read_text())
    changes = {"dataset": "cifar10", "data_dir": str(folder / "nothing"), "steps": 3}
    (elsewhere / "config.json").write_text(json.dumps({**config, **changes}))
    return [whole, cut, broken, elsewhere]


def not_there(name, data_dir):
    raise DataUnavailable(f"nothing in {data_dir}")


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "load", lambda name, data_dir: (not_there if name == "cifar10" else load)(name, data_dir))
        assert main([*map(str, runs), f"--output={output}", "--examples=3"]) == 0
    return output.read_text()


@pytest.fixture(scope="module")
def parsed(written):
    return Page(written)


def rows(written, number):
    """The cells of a table of the page."""
    table = written.split("<table>")[number + 1].split("</table>")[0]
    root = ElementTree.fromstring(f"<table>{table}</table>")
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


def test_needs_nothing_from_elsewhere(parsed, written):
    assert parsed.loads == [] and not parsed.named("script") and not parsed.named("link") and "@import" not in written
    policy = next(meta for meta in parsed.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert len(parsed.ids) == len(set(parsed.ids)) > 0
    for link in (attributes.get("xlink:href") for attributes in parsed.named("use")):
        assert link[1:] in parsed.ids


def test_names_are_escaped(parsed, written):
    assert "<script>" not in written and "saf_f & co" in parsed.words
    assert "<script>alert(1)<_script>" in parsed.words


def test_charts_are_described_and_follow_the_theme(parsed, written):
    images = [attributes for attributes in parsed.named("svg") if "aria-hidden" not in attributes]
    # Loss and accuracy; rates and bars of four runs; two layers of the only net that can be shown.
    assert len(images) == 2 + 2 * 4 + 2
    assert all(image["role"] == "img" and len(image["aria-label"]) > 40 for image in images)
    assert "prefers-color-scheme:dark" in written
    colours = set(re.findall(r"#[0-9a-f]{6}\b", written.split("</style>")[1]))
    assert colours == set(), "a colour that no theme changes"


def test_results_are_those_of_the_run(written, runs):
    head, whole, cut, broken, elsewhere = rows(written, 0)
    summary = json.loads((runs[0] / "summary.json").read_text())
    cell = dict(zip(head, whole, strict=True))
    assert (cell["run"], cell["status"], cell["method"], cell["T"]) == ("saf_f & co", "finished", "saf_f", "2")
    assert cell["network"] == "vgg 4-M-8" and cell["parameters"] == "438"
    assert float(cell["test accuracy, %"]) == pytest.approx(100 * summary["test_accuracy"], abs=0.005)
    assert float(cell["test loss"]) == pytest.approx(summary["test_loss"], abs=5e-5)
    assert float(cell["inference, nJ"].replace(",", "")) > 4.6 * 8464 / 1000
    assert (cell["in the chosen epoch"], cell["counts alone"]) == ("–", "–")
    assert cut[1] == "broken" and broken[1:6] == ["broken", *["–"] * 4] and elsewhere[-1] == "–"


def run_of(path, epochs=0, **summary):
    path.mkdir(exist_ok=True)
    return Run(path, path.name, None, None, [{"epoch": 1 + epoch} for epoch in range(epochs)], summary or None)


def test_beside_the_last_epoch_stand_the_chosen_one_and_the_counts(tmp_path):
    known = run_of(tmp_path, chosen_test_accuracy=0.9125, baseline_test_accuracy=0.5, parameters=7)
    (row,) = ElementTree.fromstring(tables.results([known], ["not known"])).iter("tbody")
    assert [cell.text for cell in row.iter("td")][6:8] == ["91.25", "50.00"]


def test_the_same_inputs_are_shown_once(tmp_path):
    runs = [run_of(tmp_path / name) for name in "abcd"]
    for run, content in zip(runs, (b"one", b"other", b"one"), strict=False):
        (run.path / "inputs.png").write_bytes(content)
    (section,) = page._inputs(runs)
    assert re.findall("<h3>(.*?)</h3>", section) == ["a, c", "b"] and page._inputs(runs[3:]) == []


@pytest.mark.parametrize(("epochs", "marked"), [(1, [0]), (12, [*range(12)]), (13, [*range(0, 13, 2)])])
def test_the_last_epoch_is_marked(epochs, marked, tmp_path):
    assert sorted(charts._every(run_of(tmp_path, epochs))) == marked


def test_what_is_missing_is_told(parsed):
    assert "cut is broken: metrics.jsonl is damaged after 1 epochs" in parsed.words
    assert "config.json is not one of this version" in parsed.words
    assert "No rasters: it has saved no parameters yet." in parsed.words
    assert "No rasters: its configuration cannot be read." in parsed.words
    assert "No rasters: the data set cifar10 is not in" in parsed.words


def test_operations_of_each_synapse(written):
    summed, synapses = rows(written, 1), rows(written, 2)
    assert [row[0] for row in synapses[1:]] == ["features.layers.0", "features.layers.2", "classifier"]
    # 16×16 sites of a 3×3 convolution lack 4·5 + 56·3 of their 9 connections; four channels.
    assert synapses[1][1] == f"{4 * (256 * 9 - 4 * 5 - 56 * 3):,}"
    assert synapses[1][4] == "0" and synapses[1][6] == synapses[1][1] and synapses[1][2] == f"{4 * 256 * 9:,}"
    total = sum(float(row[-1].replace(",", "")) for row in synapses[1:])
    assert float(summed[1][3].replace(",", "")) == pytest.approx(total, abs=0.2)


def test_configurations_are_compared(written):
    differing = rows(written, 3)
    assert differing[0] == ["flag", "saf_f & co", "cut", "cifar"]
    assert {row[0] for row in differing[1:]} == {"--dataset", "--data-dir", "--steps"}
    assert ["--steps", "2", "2", "3"] in differing


def test_same_runs_same_page(runs):
    some = read(runs[:2])
    assert page.page(some, ["not shown"] * 2) == page.page(some, ["not shown"] * 2)


def test_run_before_its_first_epoch(tmp_path):
    config = digits.CONFIG.changed(workdir=str(tmp_path / "run"))
    with create(config, Shape((16, 16, 1), 10)):
        pass
    (run,) = read([tmp_path / "run"])
    assert run.status == "unfinished: 0 of 30 epochs"
    assert "No run has ended an epoch." in Page(page.page([run], ["nothing"])).words


def test_names_tell_folders_apart(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "run").mkdir(parents=True)
        (tmp_path / parent / "run" / "config.json").write_text("{}")
    assert [run.name for run in read([tmp_path / "a" / "run", tmp_path / "b" / "run"])] == ["a/run", "b/run"]
    assert len(read([tmp_path / "a" / "run"] * 2)) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["{folder}"], "has no config.json"),
        (["{folder}/nothing"], "is not a folder"),
        ([], "no run is given"),
        (["{folder}", "--examples=0"], "--examples=0"),
        (["{folder}", "--output={folder}/nothing/report.html"], "there is no such folder"),
    ],
)
def test_bad_input(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([flag.format(folder=tmp_path) for flag in flags]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.startswith("error: ") and len(err.splitlines()) == 1 and not out
    assert not list(tmp_path.iterdir())


def test_folder_of_a_sweep_stands_for_its_runs(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "config.json").write_text("{}")
    (tmp_path / "sweep" / "begun").mkdir()
    assert [run.name for run in read([tmp_path / "sweep", tmp_path / "sweep" / "two"])] == ["one", "two"]


def test_not_a_run_is_named(tmp_path):
    with pytest.raises(NotARun, match=str(tmp_path)):
        read([tmp_path])


@pytest.mark.parametrize("layers", [1, 33])
def test_many_layers_are_told_apart(layers, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    rates = {f"layers.{number}": 0.1 for number in range(layers)}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({**RECORD, "rates": rates}) + "\n")
    (run,) = read([tmp_path])
    chart = charts.rates_over_epochs(run)
    styles = [drawing.style(number) for _, number in chart.legend]
    assert len(set(styles)) == min(layers, 32) and charts.last_rates(run).svg.count("<path") > layers
    assert "0.1" not in tables.results([run], ["unknown"])


def contrast(first, second):
    """Of the WCAG."""

    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("colours", "ground"), [(page.LIGHT, "#ffffff"), (page.DARK, "#17181c")])
def test_colours_are_readable(colours, ground):
    assert len(colours) == len(drawing.SERIES)
    assert min(contrast(colour, ground) for colour in colours) > 4.5


def test_runs_that_are_equal_are_seen_and_named(runs):
    """One wider than the other, since the later line would hide the earlier."""
    whole, _, _, elsewhere = read(runs)
    chart = charts.curves([whole, elsewhere], "loss")
    assert f"The same curve: {whole.name}, {elsewhere.name}." in chart.caption
    assert len(set(re.findall(r"stroke-width: ([\d.]+)", chart.svg))) >= 3
    assert "The same curve" not in charts.curves([whole], "loss").caption


def test_rasters_say_the_classes(parsed):
    assert len(re.findall(r"\bclass \d", parsed.words)) == 2 * 3
