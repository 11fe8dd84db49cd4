#!/usr/bin/env python3
"""A worker (docs/architecture.md, Processes) that has no GPU and only takes its time.

It answers as an H200's would, sleeps for as long as a compilation or a point is said to take, and
makes up times that depend on the point alone. For what the scheduler does with the rest: what it
waits for, and what it asks for. From the environment:

  STUB_COMPILE_S   seconds a point's compilation takes (0.05)
  STUB_SLOW        "warps=4:3": points whose text holds warps=4 take 3 s to compile
  STUB_OPEN_S      seconds that a problem's inputs and reference take (0)
  STUB_KEPT        problems whose buffers are kept (8)
  STUB_POINT_S     seconds a point takes beside that (0.02)
  STUB_LOG         a file that every request is noted in: seconds, what, problem, point
"""
import hashlib
import json
import os
import socket
import struct
import sys
import time


def setting(name, default):
    return float(os.environ.get("STUB_" + name, default))


channel = socket.socket(fileno=3)
begun = float(os.environ.get("STUB_BEGUN", time.time()))
kept = []


def receive():
    head = b""
    while len(head) < 4:
        part = channel.recv(4 - len(head))
        if not part:
            sys.exit(0)
        head += part
    size, text = struct.unpack("=I", head)[0], b""
    while len(text) < size:
        part = channel.recv(size - len(text))
        if not part:
            sys.exit(0)
        text += part
    return json.loads(text)


def note(*words):
    if "STUB_LOG" in os.environ:
        with open(os.environ["STUB_LOG"], "a") as log:
            log.write("\t".join(["%.3f" % (time.time() - begun), *map(str, words)]) + "\n")


def chance(text):
    return int(hashlib.md5(text.encode()).hexdigest()[:8], 16) / 2**32


def time_of(kernel, point):
    ns = 20000.0 if kernel == "stream" else 50000.0
    for word in point.split(","):
        ns *= 1 + 0.6 * chance(word) ** 2
    return ns


def build(point, seconds):
    return {"status": "ok", "cached": False, "ms": seconds * 1e3, "registers": 64, "spill": 0,
            "stack": 0, "shared": 0, "instructions": 100, "blocks": 2,
            "hash": hashlib.md5(point.encode()).hexdigest(), "log": ""}


def record(request, point, ns, seconds, subject="kernel", kernel=None, problem=None):
    samples = [ns * (1 + 0.001 * (i % 5)) for i in range(10)] if ns else []
    low, high = (min(samples), max(samples)) if samples else (0, 0)
    return {"status": "ok", "reason": "", "subject": subject,
            "kernel": kernel or request["kernel"], "dtype": "fp16",
            "problem": problem or request["problem"], "point": point, "worst": 0.1,
            "launches": 4, "samples": samples, "summary": [ns * 1.002, 0.0, low, high, low, high],
            "host_ns": 1, "wall_ns": 1, "telemetry": [-1, -1, -1, -1, -1],
            "seconds": [0, 0, seconds], "retaken": 0, "millijoules": 0, "autocorrelation": 0,
            "drift": 0, "counted": False, "counters": {}, "build": build(point, 0)}


def compile_points(request):
    records = []
    for point in request["points"]:
        seconds = setting("COMPILE_S", 0.05)
        words, _, slow = os.environ.get("STUB_SLOW", "").partition(":")
        if slow and words in point:
            seconds = float(slow)
        time.sleep(seconds)
        one = record(request, point, 0, 0)
        one["build"] = build(point, seconds)
        records.append(one)
        note("compiled", request["problem"], point)
    return {"records": records}


def open_problem(request):
    problem = request["kernel"] + " " + request["problem"] + " " + request["policy"]
    if problem in kept:
        kept.remove(problem)
    else:
        note("opened", request["problem"], request["kernel"])
        time.sleep(setting("OPEN_S", 0) if request["kernel"] != "stream" else 0)
    kept.append(problem)
    del kept[:-int(setting("KEPT", 8))]


def evaluate(request):
    start = time.time()
    open_problem(request)
    time.sleep(setting("POINT_S", 0.02))
    note("timed", request["problem"], request["point"])
    took = time.time() - start
    return {"records": [record(request, request["point"], time_of(request["kernel"], request["point"]), took)]}


def contest(request):
    open_problem(request)
    time.sleep(10 * setting("POINT_S", 0.02))
    records = []
    for name, point in request["points"]:
        if name == "ceiling":
            records.append(record(request, point, 1000.0, 0.1, name, "stream",
                                  "read_bytes=16,write_bytes=16"))
        else:
            records.append(record(request, point, time_of(request["kernel"], point), 0.1, name))
    note("contest", request["problem"], "")
    return {"records": records}


DEVICE = {"kind": "cuda", "id": "cuda:0", "name": "NVIDIA H200", "slug": "stub", "driver": "0",
          "ordinal": 0, "arch": 90, "sms": 132, "threads_per_sm": 2048, "threads_per_block": 1024,
          "registers_per_sm": 65536, "shared_per_block": 227 << 10, "shared_per_sm": 228 << 10,
          "l2_bytes": 60 << 20, "memory_bytes": 140 << 30, "clock_khz": 1980000,
          "memory_clock_khz": 3201000, "bus_bits": 6144, "ecc": 1, "driver_version": 13000}


def serve(request):
    op = request["op"]
    if op == "describe":
        return {"device": DEVICE, "compiler": "none", "baseline": "", "baseline_note": "",
                "others": 0}
    if op == "ceilings":
        return {"copy_gbps": 4000.0, "read_gbps": 4500.0, "copy_bytes": 1 << 30,
                "launch_ns": 1000.0, "graph_node_ns": 500.0}
    return {"compile": compile_points, "evaluate": evaluate, "contest": contest}[op](request)


while True:
    wanted = receive()
    if wanted["op"] in ("open", "warm"):
        continue
    answer = json.dumps({"ok": True, "waited_s": 0.0, **serve(wanted)}).encode()
    channel.sendall(struct.pack("=I", len(answer)) + answer)
