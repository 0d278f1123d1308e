#!/usr/bin/env python3
"""Regenerates tests/vectors/latency.json from the Python reference of the latency estimator.

    scripts/latency_vectors.py REFERENCE_DIR [OUTPUT]

REFERENCE_DIR holds estimator.py and simlib.py, which are not part of this repository. Needs numpy,
numba and scipy. The output is the same on every run.

The reference counts milliseconds on a grid from 2^-10 to 2^22, we count seconds on one from 2^-20 to
2^12. Its inputs are therefore taken as units of 2^-10 s, so that cell k is cell k; no rounding is
involved. What is compared is the number of exact calls and the calls by cell, of every interval.
"""
import json
import os
import sys
import tempfile
from pathlib import Path

if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
sys.dont_write_bytecode = True
os.environ.setdefault("NUMBA_CACHE_DIR", tempfile.mkdtemp(prefix="numba-"))
sys.path.insert(0, sys.argv[1])
OUTPUT = Path(sys.argv[2] if len(sys.argv) == 3 else "tests/vectors/latency.json")

import numpy as np  # noqa: E402
import estimator  # noqa: E402
import simlib  # noqa: E402

SCALE = 2.0**-10
SPACING = 0.01  # between the two scans of a poll
# name, calls a second, seconds between polls, polls
SCENARIOS = [
    ("logn:0.6", 3.0, 1.0, 60),
    ("logn:1.5", 60.0, 1.0, 30),
    ("logn:0.02", 20.0, 1.0, 20),
    ("gamma:0.5", 10.0, 5.0, 20),
    ("bimodal:0.03", 100.0, 1.0, 30),
    ("pareto:1.5", 25.0, 2.0, 30),
    ("stall", 20.0, 1.0, 40),
    ("step", 300.0, 1.0, 20),
]


def digits(value, n):
    """The value with n significant digits."""
    return float(f"{float(value):.{n - 1}e}")


def main():
    vectors = []
    for index, (name, rate, period, polls) in enumerate(SCENARIOS):
        rng = np.random.default_rng(1000 + index)
        t, x = simlib.gen(name, rate, period * polls, rng)
        starts = np.arange(polls) * period
        edges = np.sort(np.concatenate([starts, starts + SPACING, [period * polls]]))
        interval = simlib.poll(t, x, edges, 0.0, np.inf)
        dt = np.diff(edges)
        # Nine digits are enough for the test; the reference gets the same nine.
        for key in ("S", "M2", "cmx", "cmn", "imx", "imn"):
            interval[key] = np.array([digits(v, 9) for v in interval[key]])
        dt = np.array([digits(v, 9) for v in dt])
        out, exact = estimator.run2(interval, dt)
        rows = []
        for i in range(interval["K"]):
            calls = int(interval["n"][i])
            if calls == 0:
                continue
            cells = out[i].reshape(256, 4).sum(axis=1)
            rows.append({
                "at": digits(edges[i + 1], 9),
                "calls": calls,
                "total": interval["S"][i] * SCALE,
                "m2": interval["M2"][i] * SCALE**2,
                "min": interval["cmn"][i] * SCALE,
                "max": interval["cmx"][i] * SCALE,
                "fell": bool(interval["fell"][i]),
                "rose": bool(interval["rose"][i]),
                "exact": int(exact[i]),
                "cells": {str(k): digits(v, 5) for k, v in enumerate(cells) if v > 1e-5 * calls},
            })
        vectors.append({"scenario": name, "intervals": rows})
    lines = []
    for vector in vectors:
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in vector["intervals"])
        lines.append(f'{{"scenario":"{vector["scenario"]}","intervals":[\n{rows}\n]}}')
    OUTPUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{OUTPUT}: {sum(len(v['intervals']) for v in vectors)} intervals,"
          f" {OUTPUT.stat().st_size} bytes")


main()
