"""check_spaces.py FOLDER EXPECTED FIRST [PUBLISHED...] - T4 and T1 files as Kernel Tuner's tools read them.

Run by test_spaces.sh in a venv with kernel_tuner and autotuning_methodology, which ship the schemas.
EXPECTED: what the database says of each kernel's scan. FIRST: test numbers follow it. PUBLISHED: T4
files of other databases.
"""
import contextlib
import copy
import gzip
import io
import json
import math
import sys
import tempfile
from pathlib import Path

import jsonschema
from autotuning_methodology.searchspace_statistics import SearchspaceStatistics
from kernel_tuner.file_utils import get_input_file, output_file_schema
from kernel_tuner.searchspace import Searchspace

folder, expected, number = Path(sys.argv[1]), json.load(open(sys.argv[2])), int(sys.argv[3])
scratch = Path(tempfile.mkdtemp())
failed = False
# validators that refuse a schema which is none, so that an empty one could not pass everything
schemas = {name: output_file_schema(name)[1] for name in ("results", "metadata")}
for schema in schemas.values():
    jsonschema.validators.validator_for(schema).check_schema(schema)
    assert schema["properties"], schema


def check(name, test, *arguments):
    global number, failed
    number += 1
    try:
        test(*arguments)
        print(f"ok {number} - {name}")
    except Exception as error:  # whatever a reader throws is its refusal
        failed = True
        print(f"not ok {number} - {name}\n# {type(error).__name__}: {str(error)[:300]}")


def unpacked(name, content):
    path = scratch / name
    path.write_text(json.dumps(content))
    return path


def read_t4(t4):
    """The schemas, and the space as autotuning_methodology has it."""
    for schema in schemas.values():
        jsonschema.validate(t4, schema)
    with contextlib.redirect_stdout(io.StringIO()):
        return SearchspaceStatistics("kernel", "device", True, ["compilation", "runtimes"], ["time"],
                                     unpacked("space.json", t4))


def read_t1(t1):
    """The space as Kernel Tuner makes it of parameters and conditions."""
    read = get_input_file(unpacked("t1.json", t1))["ConfigurationSpace"]
    values = {p["Name"]: json.loads(p["Values"]) for p in read["TuningParameters"]}
    return Searchspace(values, [c["Expression"] for c in read["Conditions"]], 1024)


def configurations(t4, names):
    return {tuple(r["configuration"][n] for n in names) for r in t4["results"]}


def same_space(t4, t1):
    space = read_t1(t1)
    names = [p["Name"] for p in t1["ConfigurationSpace"]["TuningParameters"]]
    assert set(map(tuple, space.list)) == configurations(t4, names), (space.size, len(t4["results"]))
    full = math.prod(len(p["Values"].split(",")) for p in t1["ConfigurationSpace"]["TuningParameters"])
    assert space.size < full, "the conditions exclude nothing"


def same_times(t4, row):
    """Milliseconds in the file are the database's nanoseconds, and failures are failures."""
    statistics = read_t4(t4)
    assert statistics.size == row["points"], (statistics.size, row)
    assert statistics.size - statistics.objective_performances_number_of_nan == row["correct"], row
    best_ms = statistics.total_performance_minimum()
    assert math.isclose(best_ms * 1e6, row["best_ns"], rel_tol=1e-5), (best_ms, row)
    compile_s = sum(statistics.objective_times["compilation"])  # it converts from metadata.timeunit
    assert math.isclose(compile_s * 1e3, row["compile_ms"], rel_tol=1e-4), (compile_s, row)
    for record in t4["results"]:
        if record["correctness"]:
            times, median = sorted(record["times"]["runtimes"]), record["measurements"][0]["value"]
            assert times[0] <= median <= times[-1], record


def launches(t4, t1):
    """GlobalSize and LocalSize of rmsnorm against the formula in words: a block a group of rows, or
    blocks_per_sm of them on each multiprocessor; with bulk copies rows are dealt out one by one."""
    kernel = t1["KernelSpecification"]
    sms = t4["metadata"]["hardware"]["hardware_description"][0]["sms"]
    for record in t4["results"]:
        c = record["configuration"]
        groups = 4 if c["bulk"] > 1 else -(-4 // c["rows_per_block"])
        blocks = min(groups, sms * c["blocks_per_sm"]) if c["blocks_per_sm"] else groups
        size = [eval(kernel[k][axis], {}, c) for k in ("GlobalSize", "LocalSize") for axis in "XYZ"]
        assert size == [blocks, 1, 1, c["block"], 1, 1], (size, c)


def arguments(t1):
    """The entry's parameters: y, x, weight, rows, eps, of 4 rows by 64 in fp16."""
    kernel = t1["KernelSpecification"]
    said = [(a["Name"], a["Type"], a.get("Size", a.get("FillValue")), a["AccessType"])
            for a in kernel["Arguments"]]
    assert said == [("y", "half", 256, "WriteOnly"), ("x", "half", 256, "ReadOnly"),
                    ("weight", "half", 64, "ReadOnly"), ("rows", "int64", 4, "ReadOnly"),
                    ("eps", "float", 1e-5, "ReadOnly")], said
    source = (Path(__file__).parent.parent / kernel["KernelFile"]).read_text()
    assert kernel["KernelName"] in source and kernel["Language"] == "CUDA"
    assert "-DHIDDEN=64" in kernel["CompilerOptions"], kernel["CompilerOptions"]
    assert (folder / (kernel["SimulationInput"] + ".json.gz")).exists(), kernel["SimulationInput"]
    assert t1["General"]["TimeUnit"] == "Milliseconds" and t1["General"]["Objective"] == "time"


def words(t4):
    said = {r["invalidity"] for r in t4["results"]}
    assert said == {"correct", "compile", "timeout", "correctness", "runtime"}, said


def refused(reader, content, breaking):
    """A copy broken in one place must be refused: otherwise none of the above means anything."""
    broken = copy.deepcopy(content)
    breaking(broken)
    assert broken != content
    try:
        reader(broken)
    except Exception:
        return
    raise AssertionError("the broken copy was taken")


def load(file):
    return [json.load(gzip.open(str(file).replace(".t4.", part))) for part in (".t4.", ".t1.")]


files = sorted(folder.glob("*.t4.json.gz"))
assert len(files) == len(expected), (files, expected)
for file in files:
    t4, t1 = load(file)
    name = t4["metadata"]["kernel"]
    row = next(e for e in expected if e["kernel"] == name)
    check(f"{name}: T4 has the schemas' form, and the database's times", same_times, t4, row)
    check(f"{name}: T1 has the schema's form, and T4's configurations", same_space, t4, t1)
    if name != "rmsnorm":
        continue
    check("T4: a word for each way to fail", words, t4)
    check("T1: launch sizes", launches, t4, t1)
    check("T1: entry, arguments, options", arguments, t1)

    def compare(broken):
        same_times(broken, row)

    def without_a_point(broken):
        same_space(broken, t1)

    first = lambda b: b["results"][0]
    kernel = lambda b: b["KernelSpecification"]
    for what, reader, content, breaking in [
        ("an unknown word for invalidity", read_t4, t4, lambda b: first(b).update(invalidity="bad")),
        ("no configuration", read_t4, t4, lambda b: first(b).pop("configuration")),
        ("correctness as a word", read_t4, t4, lambda b: first(b).update(correctness="yes")),
        ("a version that is none", read_t4, t4, lambda b: b.update(schema_version="one")),
        ("hardware that is no list", read_t4, t4,
         lambda b: b["metadata"]["hardware"].update(hardware_description="gpu")),
        ("another unit", compare, t4, lambda b: b["metadata"].update(timeunit="microseconds")),
        ("a point that is missing", without_a_point, t4, lambda b: b["results"].pop()),
        ("a language that is none", read_t1, t1, lambda b: kernel(b).update(Language="C")),
        ("no entry", read_t1, t1, lambda b: kernel(b).pop("KernelName")),
        ("an unknown type", read_t1, t1,
         lambda b: kernel(b)["Arguments"][0].update(Type="fp16")),
        ("an unknown unit", read_t1, t1, lambda b: b["General"].update(TimeUnit="Minutes")),
    ]:
        check(f"refused: {what}", refused, reader, content, breaking)
for file in map(Path, sys.argv[4:]):
    t4, t1 = load(file)
    check(f"{file.name}: the schemas' form", read_t4, t4)
    check(f"{file.name}: its T1 file", same_space, t4, t1)
sys.exit(failed)
