"""python -m fastinfer.benchmark: what it measures, compares, stores and refuses."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
import torch

import fastinfer
from fastinfer import (benchmark, benchmark_counts, benchmark_models, benchmark_sides,
                       benchmark_store)

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(TREE, "build", "release", "fastinfer")
SHORT = ["--models", "tiny", "--device", "cpu", "--prompt", "5", "--generate", "6", "--repeat", "2"]

needs_program = pytest.mark.skipif(not os.path.exists(PROGRAM),
                                   reason="the fastinfer program is not built (make)")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTINFER_PROGRAM", PROGRAM)
    return str(tmp_path / "of" / "fastinfer.db")


def ask(path, sql):
    db = sqlite3.connect(path)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


class Said(benchmark_sides.Side):
    """A side that says what it was told to."""

    def __init__(self, name, *tokens, order=None):
        super().__init__(name, "")
        self.answers, self.order = list(tokens), order

    def generate(self, ids, new):
        if self.order is not None:
            self.order.append(self.engine)
        return (self.answers[0] if self.answers else []), 1.0, 2.0


# --- numbers --------------------------------------------------------------------------------------


def test_sides_take_turns():
    order = []
    sides = [Said(name, order=order) for name in "ABC"]
    benchmark_sides.measure(sides, None, 4, 3, lambda text: None)
    assert "".join(order) == "ABC" + "ABC" + "CBA" + "ABC"
    assert all(len(side.times) == len(side.tokens) == 3 for side in sides)


def test_medians_and_ratios():
    assert benchmark_sides.median([3, 1, 2]) == (2, 1, 3)
    assert benchmark_sides.median(range(6)) == (2.5, 0, 5)  # P(outside) = 2 / 64
    assert benchmark_sides.median(range(9)) == (4, 1, 7)  # 2 * 10 / 512 under 5%, 2 * 46 over it
    assert benchmark_sides.median(range(20)) == (9.5, 5, 14)
    a, b = Said("a"), Said("b")
    a.times, b.times = [(1, 10), (1, 20), (1, 40)], [(1, 20), (1, 60), (1, 40)]
    assert benchmark_sides.ratio(b, a) == pytest.approx((2, 1, 3))


@pytest.mark.parametrize("name, parameters, without_rope", (
    ("llama-3.2-3b", 3212749824, 0), ("llama-3.2-1b", 1235814400, 0),
    ("smollm3-3b", 3075098624, 9)))
def test_presets_have_the_public_sizes(name, parameters, without_rope):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(benchmark_models._config(name))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(not turns for turns in getattr(model.config, "no_rope_layers", [])) == without_rope
    cache = {"llama-3.2-3b": 28 * 8 * 128, "llama-3.2-1b": 16 * 8 * 64, "smollm3-3b": 36 * 4 * 128}
    assert benchmark_models.step_bytes(model.half(), 96) == 2 * (parameters + 2 * 96 * cache[name])


# --- the same tokens? -----------------------------------------------------------------------------


def test_first_difference_over_all_repeats():
    sides = [Said(name) for name in ("eager", "same", "other")]
    sides[0].tokens = [[4, 5, 6], [4, 5, 6]]
    sides[1].tokens = [[4, 5, 6], [4, 5, 6]]
    sides[2].tokens = [[4, 5, 7], [4, 8, 6]]
    benchmark_sides.compare(sides)
    assert [side.difference is None for side in sides] == [True, True, False]
    found = sides[2].difference
    assert (found.position, found.eager, found.other) == (1, 5, 8)
    assert found.verdict == "not judged"


@pytest.mark.parametrize("dtype", (torch.float16, torch.float32))
def test_near_ties_are_told_from_mistakes(dtype):
    model = benchmark_models.make("tiny", dtype, "cpu", "eager")
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.inference_mode():
        order = model(ids).logits[0, -1].argsort(descending=True).tolist()
        best, twin, other = order[0], order[100], order[200]
        # the head's rows: twin says the same as best
        table = model.get_output_embeddings().weight
        table[twin] = table[best]
    sides = [Said(name) for name in ("eager", "tie", "mistake")]
    for side, token in zip(sides, (best, twin, other)):
        side.tokens = [[token]]
    benchmark_sides.compare(sides)
    benchmark_sides.judge(sides, model, ids)
    assert sides[1].difference.verdict == "near tie" and sides[1].difference.behind == 0
    assert sides[2].difference.verdict == "wrong"
    assert sides[2].difference.behind > 2 * sides[2].difference.error
    assert ("fp32" if dtype == torch.float16 else "fp64") in str(sides[2].difference)


# --- end to end -----------------------------------------------------------------------------------


@needs_program
def test_tiny_is_timed_and_stored(database, capsys):
    assert benchmark.main(SHORT + ["--db", database, "--json"]) == 0
    result, = json.loads(capsys.readouterr().out)["results"]
    sides = result["sides"]
    assert [s["engine"] for s in sides] == ["transformers", "fastinfer accelerate", "fastinfer"]
    assert [s["difference"] for s in sides] == [None] * 3
    assert result["step_bytes"] == 648128  # as `fastinfer tps` has it
    assert sides[1]["a_token"]["operations"] < sides[0]["a_token"]["operations"]
    for side in sides:
        assert 0 < side["tokens_low"] <= side["tokens_s"] <= side["tokens_high"]
        assert 0 < side["first_low_ms"] <= side["first_ms"] <= side["first_high_ms"]
    rows = ask(database, "SELECT model, engine, configs, dtype, batch, prompt, generated, repeats, "
               "tokens_s, first_ms FROM throughput ORDER BY id")
    assert rows == [("tiny", s["engine"], s["configs"], "fp16", 1, 5, 6, 2, s["tokens_s"],
                     s["first_ms"]) for s in sides]
    assert ask(database, "SELECT second, ratio, verdict FROM acceptance ORDER BY id") == [
        (s["configs"], s["ratio"], "undecided") for s in sides[1:]]
    assert ask(database, "SELECT kind, slug, arch FROM device") == [("cpu", "cpu", 0)]
    assert ask(database, "SELECT outcome, baseline FROM run") == [
        ("done", "torch " + torch.__version__)]


@needs_program
def test_csv_is_the_programs(database, capsys, tmp_path):
    for _ in range(2):
        assert benchmark.main(SHORT + ["--db", database, "--no-counts"]) == 0
    assert "fastinfer accelerate" in capsys.readouterr().out
    mine = os.path.join(os.path.dirname(database), "cpu", "tps.csv")
    drawn = shutil.which("gnuplot") and not os.environ.get("FASTINFER_TEST_INSTALLED")
    picture = os.path.join(os.path.dirname(mine), "plots", "tps.svg")
    assert os.path.exists(picture) == bool(drawn)  # an installed package has no scripts
    subprocess.run([PROGRAM, "export", "--db", database, "--out", str(tmp_path / "theirs"),
                    "--tables"], check=True, stdout=subprocess.DEVNULL)
    with open(mine) as a, open(tmp_path / "theirs" / "cpu" / "tps.csv") as b:
        text = a.read()
        assert text == b.read()
        assert text.count("\n") == 4  # the second run's three sides replaced the first's
    subprocess.run([PROGRAM, "export", "--check", mine], check=True, stdout=subprocess.DEVNULL)


@needs_program
def test_on_a_gpu_the_csv_has_the_ratio(database, tmp_path):
    db = benchmark_store.open_database(database)
    record = benchmark_store.Record(db, "cuda", "NVIDIA Example (8)", 90, "command", "torch", 1)
    db.execute("UPDATE run SET read_gbps = 1000")
    record = benchmark_store.Record(db, "cuda", "NVIDIA Example (8)", 90, "command", "torch", 1)
    shared = dict(model="m", dtype="fp16", batch=1, prompt=5, generated=6, repeats=9, step_bytes=1e9)
    record.add([dict(shared, engine=engine, configs=configs, tokens_s=tokens) for
                engine, configs, tokens in (("transformers", "t", 100), ("fastinfer", "f", 250))],
               [dict(model="m", first="transformers t", second="f", batch=1, prompt=5, generated=6,
                     rounds=9, ratio=2.5, low=2.4, high=2.6, verdict="accepted")])
    mine = record.write_csv(str(tmp_path / "mine"))
    assert mine.endswith(os.path.join("nvidia-example-8", "tps.csv"))
    db.close()
    subprocess.run([PROGRAM, "export", "--db", database, "--out", str(tmp_path / "theirs"),
                    "--tables"], check=True, stdout=subprocess.DEVNULL)
    with open(mine) as a, open(tmp_path / "theirs" / "nvidia-example-8" / "tps.csv") as b:
        text = a.read()
        assert text == b.read()
    assert ",250.0,1000.0,25.0," in text and ",100.0,,2.5,2.4,2.6,9," in text


@needs_program
def test_a_wrong_text_is_not_stored(database, monkeypatch, capsys):
    generate = benchmark_sides.Library.generate

    def wrong(side, ids, new):
        tokens, *times = generate(side, ids, new)
        return [tokens[0], tokens[1] ^ 1] + tokens[2:], *times

    monkeypatch.setattr(benchmark_sides.Library, "generate", wrong)
    assert benchmark.main(SHORT + ["--db", database, "--no-counts"]) == 1
    assert "token 1 is" in capsys.readouterr().out
    assert ask(database, "SELECT engine FROM throughput ORDER BY id") == [
        ("transformers",), ("fastinfer accelerate",)]


def test_weights_of_a_folder(tmp_path, capsys):
    model = benchmark_models.make("tiny", torch.float16, "cpu", "eager")
    model.save_pretrained(tmp_path / "mine")
    arguments = SHORT[2:] + ["--models", "mine", "--no-db", "--no-counts", "--json", "--weights"]
    for folder in (tmp_path, tmp_path / "mine"):
        assert benchmark.main(arguments + [str(folder)]) == 0
        result, = json.loads(capsys.readouterr().out)["results"]
        assert result["weights"] == str(tmp_path / "mine")
        assert [s["difference"] for s in result["sides"]] == [None] * 3


def test_injection_is_undone_after_each_text(launches):
    model = benchmark_models.make("tiny", torch.float16, "cpu", "sdpa")
    ids = torch.tensor([[7, 8, 9]])
    with torch.inference_mode():
        benchmark_sides.Injected(model, "sdpa").generate(ids, 3)
        assert set(launches) == {"rmsnorm", "add_rmsnorm", "swiglu", "rope"}
        del launches[:]
        benchmark_sides.Transformers(model, "sdpa").generate(ids, 3)
    assert launches == []


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, sentence", (
    (["--models", "nope"], "there is no preset 'nope'; llama-3.2-3b, "),
    (["--device", "gpu"], "--device gpu: cpu or cuda:N was expected"),
    (["--device", "cuda:99"], "--device cuda:99: PyTorch sees"),
    (["--repeat", "0"], "--repeat is 0; 1 or more was expected"),
    (["--generate", "1"], "--generate is 1; 2 or more was expected"),
    (["--weights", "no/such"], "a folder tiny with a config.json was expected in it, or"),
    (["--weights", "no/such", "--models", "a", "b"], "a folder a with a config.json was expected"),
))
def test_bad_input_is_one_sentence(arguments, sentence, capsys):
    assert benchmark.main(SHORT + ["--no-db"] + arguments) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("version, sentence", ((3, "brings an older one up to date"),
                                               (99, "this package is older than the file")))
def test_another_schema_is_refused_and_left_alone(version, sentence, tmp_path, capsys):
    path = str(tmp_path / "other.db")
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = %d" % version)
    db.close()
    with open(path, "rb") as file:
        before = file.read()
    assert benchmark.main(SHORT + ["--db", path]) == 2
    error = capsys.readouterr().err
    assert "has schema %d, %d was expected" % (version, benchmark_store.SCHEMA) in error
    assert sentence in error
    with open(path, "rb") as file:
        assert file.read() == before


def test_no_database_and_no_program(tmp_path, monkeypatch, capsys):
    path = str(tmp_path / "new.db")
    monkeypatch.setattr(benchmark_store, "_program", lambda: None)
    assert benchmark.main(SHORT + ["--db", path]) == 2
    assert "fastinfer devices --no-measure --db %s" % path in capsys.readouterr().err
    monkeypatch.setattr(benchmark_store, "_program", lambda: "/bin/false")
    assert benchmark.main(SHORT + ["--db", path]) == 2
    assert "could not be made with /bin/false: exit 1" in capsys.readouterr().err
    (tmp_path / "text.db").write_text("a text, and no database of anybody's" * 40)
    assert benchmark.main(SHORT + ["--db", str(tmp_path / "text.db")]) == 2
    assert "file is not a database" in capsys.readouterr().err


# --- the first version's script -------------------------------------------------------------------


def test_the_script_runs_it_and_the_import_does_not():
    script = os.path.join(TREE, "python", "testing_llama_and_smol.py")
    shown = subprocess.run([sys.executable, script, "--models", "nope", "--device", "cpu"],
                           capture_output=True, text=True)
    assert shown.returncode == 2 and "there is no preset 'nope'" in shown.stderr
    look = "import sys, testing_llama_and_smol as t; t.FastRMS; t.fast_mlp; " \
        "t.fast_rope_embedding; sys.exit('fastinfer.benchmark' in sys.modules)"
    subprocess.run([sys.executable, "-c", look], check=True,
                   env=dict(os.environ, PYTHONPATH=os.path.dirname(script)))


# --- on a GPU -------------------------------------------------------------------------------------


@needs_gpu
def test_injection_never_waits_for_the_gpu():
    model = benchmark_models.make("tiny", torch.float16, "cuda:0", "eager")
    ids = torch.tensor([[7, 8, 9, 10]], device="cuda:0")

    def forward():
        model(ids, use_cache=False)

    with torch.inference_mode():
        nothing = benchmark_counts.trace(lambda: None, True)
        forward()
        plain = benchmark_counts.trace(forward, True)
        with fastinfer.accelerate(model, report=False):
            forward()
            fast = benchmark_counts.trace(forward, True)
            torch.cuda.set_sync_debug_mode("error")  # PyTorch's own waits raise
            try:
                forward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert fast["waits"] == nothing["waits"]
    assert fast["copies"] <= plain["copies"]
    assert 0 < fast["kernels"] < plain["kernels"]
