"""``minicnn report``: one file that is well-formed, asks nobody for anything, and says what evaluate says."""

import html.parser
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

import minicnn
from minicnn import Sequential, layers
from minicnn.cli import main, runs

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

NAMES = [
    '<script>alert("1")</script>',
    "\"quoted\" 'twice' & <b>bold</b>",
    "--><img src=http://127.0.0.1/x.png onerror=alert(1)>",
    "$\\frac{x$",
    "שלום עולם",
    "日本語",
    "{{ 7 * 7 }}",
    "a-name-that-is-longer-than-any-other-name-of-a-class",
    "javascript:alert(1)",
    "</style></svg></title>",
]
VOID = {"meta", "link", "img"}


class Page(html.parser.HTMLParser):
    """What is in a page; raises where elements are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes), (tag, attributes)
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.texts.append(data)
        if {"td", "th"} & {*self.open} and data.strip():
            self.rows[-1].append(data.strip())

    def all(self, tag):
        return [attributes for one, attributes in self.elements if one == tag]


def own_network():
    parts = [layers.Conv2D(2, 3, activation="relu"), layers.Dropout(0.3, name="<i>&'\""), layers.MaxPooling2D(2)]
    return Sequential([*parts, layers.Flatten(), layers.Dense(10, activation="softmax")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which a run, "run", is, of digits, of a network of one's own."""
    path = tmp_path_factory.mktemp("report")
    (path / "net.json").write_text(own_network().to_json())
    words = ["--model", str(path / "net.json"), "--epochs", "2", "--validation", "0.2", "--out", str(path / "run")]
    assert main(["train", *words, "--no-compare", "--optimizer", "adam", "--schedule", "constant"]) == 0
    return path


@pytest.fixture(scope="module")
def plain(folder):
    """The page of the run."""
    assert main(["report", str(folder / "run"), "--out", str(folder / "plain.html")]) == 0
    return Page((folder / "plain.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(folder):
    """The page, as a file, of the same run where names and settings are not what one hopes for."""
    run = folder / "<b>run"
    shutil.copytree(folder / "run", run)
    model = Sequential.load(run / "model.npz")
    model.class_names = NAMES
    model.save(run / "model.npz")
    settings = json.loads((run / "settings.json").read_text())
    settings["calls"][0]["command"] = "minicnn </pre><script>\u202etxt\udcff\x1b"
    settings["calls"][0]["environment"]["<b>"] = {"platform": ["<i>"]}
    settings["calls"][0]["samples"]["training"] = "many"
    (run / "settings.json").write_text(json.dumps(settings))
    assert main(["report", str(run), "--json"]) == 0
    return run / "report.html"


@pytest.fixture
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def require_harmless(page):
    """Nothing in it is code, and nothing is asked for."""
    assert not {"script", "iframe", "object", "embed", "form", "base", "foreignobject"} & {
        tag for tag, _ in page.elements
    }
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "srcset", "href", "action", "data", "xlink:href"):
            if name in attributes:
                allowed = r"#\w+" if tag in ("a", "use") else r"data:(,|image/png;base64,[A-Za-z0-9+/=]+)"
                assert re.fullmatch(allowed, attributes[name]), (tag, name)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    for picture in page.all("img"):
        assert picture["alt"]
    titles = {one["id"] for one in page.all("title") if "id" in one}
    for picture in page.all("svg"):
        assert (picture["role"], picture["aria-labelledby"] in titles) == ("img", True)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {one["href"][1:] for one in page.all("a") + page.all("use")}
    targets |= {one["aria-labelledby"] for _, one in page.elements if "aria-labelledby" in one}
    assert targets <= set(ids)


def test_the_page_asks_for_nothing(plain):
    require_harmless(plain)
    assert len(plain.all("svg")) == 6  # loss, accuracy, confusion matrix, reliability, architecture, filters
    assert len(plain.all("img")) == 12
    assert "left out" not in plain.text


def test_its_numbers_are_those_of_evaluate(plain, in_folder, capsys):
    assert main(["evaluate", "run/model.npz", "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"{100 * found['accuracy']:.1f} %" in plain.text
    assert f"{found['loss']:.4g}" in plain.text
    keys = ("precision", "recall", "f1-score")
    for row in found["classes"]:
        assert [row["class"], *(f"{row[key]:.3f}" for key in keys), str(row["support"])] in plain.rows
    for name in ("macro avg", "weighted avg"):
        assert [name, *(f"{found[name][key]:.3f}" for key in keys), "500"] in plain.rows
    matrix = [str(count) for row in found["confusion_matrix"] for count in row if count]
    texts = "\n".join(one.strip() for one in plain.texts if one.strip())
    assert "\n".join(matrix) in texts
    model = Sequential.load("run/model.npz")
    assert model.fingerprint() in plain.text
    x, y = minicnn.datasets.digits.load_data()[1]
    assert f"{100 * minicnn.calibration.expected_calibration_error(y, model.predict(x)):.1f} % ECE" in plain.text


def test_what_the_run_holds_is_on_the_page(plain, in_folder):
    with open("run/history.json") as file:
        history = json.load(file)
    for name in ("loss", "accuracy"):
        numbers = [f"{history[prefix + name][-1]:.4g}" for prefix in ("", "clean_", "val_")]
        assert [name, *numbers] in plain.rows
    (call,) = runs.calls_in("run/settings.json")
    assert call["command"].startswith("minicnn train --model ")
    assert call["command"] in plain.text
    assert call["samples"] == {"training": 1037, "validation": 260, "test": 500}
    assert ["training samples", "1,037"] in plain.rows
    for name, value in minicnn.versions().items():
        if isinstance(value, str):
            assert [name, value] in plain.rows
    assert "with 1,037 and 260 samples" in plain.text
    assert "between them is what dropout" in plain.text
    model, start = Sequential.load("run/model.npz"), own_network()
    start.build((8, 8, 1))
    (row,) = [row for row in plain.rows if row[0] == "4.kernel"]
    sizes = [
        float((values**2).sum() ** 0.5)
        for values in (model.layers[4].params["kernel"], start.layers[4].params["kernel"])
    ]
    assert row[1:4] == ["18 x 10", *(f"{size:.4g}" for size in sizes)]


def test_names_do_no_harm(hostile):
    text = hostile.read_text(encoding="utf-8")
    page = Page(text)
    require_harmless(page)
    for name in NAMES:
        assert name in page.text
    assert "49" not in [row[0] for row in page.rows]
    for name in NAMES[:4]:
        assert any(name[:11] in one["alt"] for one in page.all("img")) or name[:11] in page.text
    assert "minicnn </pre><script>\\u202etxt\\udcff\\x1b" in page.text
    assert "Run <b>run" in page.text
    assert "<i>&'\"" in page.text
    assert "Undecided: how many samples there were is not known" in page.text
    assert "\u202e" not in text


def test_a_run_whose_data_are_gone(folder, in_folder, capsys):
    shutil.copytree("run", "moved")
    with open("run/settings.json") as file:
        settings = json.load(file)
    settings["data"] = os.path.abspath("gone")
    with open("moved/settings.json", "w") as file:
        json.dump(settings, file)
    os.remove("moved/history.json")
    assert main(["report", "moved", "--json"]) == 0
    out, err = capsys.readouterr()
    reason = f"{os.path.abspath('gone')}: No such file or folder"
    found = json.loads(out)
    assert (found["run"], found["file"]) == ("moved", os.path.join("moved", "report.html"))
    left_out = found["left_out"]
    assert left_out.pop("curves").startswith("plot.history: history must be")
    assert left_out == dict.fromkeys(["measures", "confusion_matrix", "mistakes", "calibration"], reason)
    assert f"minicnn: note: without confusion matrix: {reason}" in err.splitlines()
    with open("moved/report.html", encoding="utf-8") as file:
        text = file.read()
    page = Page(text)
    require_harmless(page)
    assert page.text.count(f"left out: {reason}") == 4
    assert "No epoch has been trained" in page.text
    assert len(page.all("svg")) == 2
    os.remove("moved/settings.json")
    assert main(["report", "moved"]) == 0
    with open("moved/report.html", encoding="utf-8") as file:
        text = file.read()
    assert "Settings left out" in text
    assert "Command and environment left out" in text
    assert "The norms at the start are left out" in text
    assert main(["report", "moved", "--out", "again.html"]) == 0
    with open("again.html", encoding="utf-8") as file:
        assert file.read() == text


def test_wrong_usage(in_folder, capsys, monkeypatch):
    assert main(["report", "nowhere"]) == 1
    assert capsys.readouterr() == ("", "minicnn: error: nowhere: No such folder\n")
    with pytest.raises(SystemExit) as caught:
        main(["report", "run", "--dat-dir", "x"])
    assert (caught.value.code, "Did you mean --data-dir?" in capsys.readouterr().err) == (2, True)
    for name in ("jinja2", "matplotlib.figure"):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, name, None)
            assert main(["report", "run"]) == 1
        said = 'minicnn: error: a report needs jinja2 and matplotlib: pip install "minicnn[report]"\n'
        assert capsys.readouterr() == ("", said)
    assert not os.path.exists("run/report.html")


def test_runs_remember_their_calls(in_folder, capsys):
    words = ["--model", "net.json", "--no-compare", "--optimizer", "adam", "--schedule", "constant"]
    assert main(["train", *words, "--epochs", "1", "--out", "long one"]) == 0
    assert main(["train", "--resume", "long one", "--epochs", "2"]) == 0
    first, second = runs.calls_in("long one/settings.json")
    assert first["command"] == f"minicnn train {' '.join(words)} --epochs 1 --out 'long one'"
    assert second["command"] == "minicnn train --resume 'long one' --epochs 2"
    assert first["environment"] == minicnn.versions()
    with open("long one/settings.json") as file:
        settings = json.load(file)
    for calls in (None, 3, [3, {"command": 3}]):  # of an older version, or damaged
        with open("long one/settings.json", "w") as file:
            json.dump({key: value for key, value in settings.items() if key != "calls"} | {"calls": calls}, file)
        assert runs.calls_in("long one/settings.json") == []
    assert main(["train", "--resume", "long one", "--epochs", "2"]) == 0
    first, second = runs.calls_in("long one/settings.json")
    assert first == runs.UNKNOWN
    assert second["command"] == "minicnn train --resume 'long one' --epochs 2"
    assert (
        main(["report", "long one"]) == main(["plot", "long one"]) == main(["plot", "long one", "--format", "svg"]) == 0
    )
    with open("long one/mine.png", "w"):
        pass
    assert main(["train", *words, "--epochs", "1", "--out", "long one", "--overwrite"]) == 0
    left = ["checkpoint.npz", "history.json", "mine.png", "model.npz", "network.json", "settings.json"]
    assert sorted(os.listdir("long one")) == left  # nothing that shows the run that was there
    assert len(runs.calls_in("long one/settings.json")) == 1


def test_a_run_without_dropout_is_told_of_none(in_folder):
    assert main(["train", "--dropout", "0", "--no-compare", "--epochs", "1", "--out", "plain one"]) == 0
    assert main(["report", "plain one"]) == 0
    with open("plain one/report.html", encoding="utf-8") as file:
        page = Page(file.read())
    assert "a mean over the epoch; on the same samples after the epoch it was" in page.text
    assert "between them is what the weights of earlier steps add" in page.text


# ---- in a browser ----

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Proxy(http.server.BaseHTTPRequestHandler):
    """Has the pages, under any address, and remembers what it was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page or b"")

    def do_CONNECT(self):  # https
        self.server.asked.append(self.path)
        self.send_error(502)

    def log_message(self, *arguments):
        pass


@pytest.mark.skipif(not BROWSER or bool(os.environ.get("CI")), reason="needs Debian's chromium, and is not for CI")
def test_a_browser_finds_nothing_to_complain_of(hostile, tmp_path):
    text = hostile.read_text(encoding="utf-8")
    images = "".join(f'<img src="{place}/x.png" alt="">' for place in ("http://run.test", "https://elsewhere.test"))
    more = text.replace("</body>", f"{images}<script>1</script></body>")
    pages = {"report": text, "refused": more, "unguarded": re.sub("<meta http-equiv=[^>]*>", "", more)}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.pages = {f"http://run.test/{name}": page.encode() for name, page in pages.items()}
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def opened(name):
            """(what the page asked for, what the browser said on its console)"""
            server.asked.clear()
            options = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
            options += ["--disable-component-update", "--disable-sync", "--disable-default-apps"]
            options += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
            options += [f"--proxy-server=http://127.0.0.1:{server.server_port}", "--proxy-bypass-list=<-loopback>"]
            options += ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
            command = [BROWSER, *options, f"http://run.test/{name}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
            assert "How to do it again" in done.stdout
            own = r"google|gvt1\.com|gstatic"  # the browser's own affairs
            asked = [one for one in server.asked if not re.search(own, one)]
            return asked, re.findall(r":CONSOLE[^\]]*\] (.*)", done.stderr)

        assert opened("report") == (["http://run.test/report"], [])
        asked, said = opened("refused")  # the policy holds, and the console is heard
        assert (asked, len(said)) == (["http://run.test/refused"], 3)
        asked, _ = opened("unguarded")  # requests are seen
        assert {*asked} == {"http://run.test/unguarded", "http://run.test/x.png", "elsewhere.test:443"}
        server.shutdown()
