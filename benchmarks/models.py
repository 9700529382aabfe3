"""Throughput of TFN, LMF and MulT against their naive twins: python benchmarks/models.py [names ...] [--json]."""

import sys
from dataclasses import asdict

from common import show

from affectcore.training.bench import run_benchmarks

if __name__ == "__main__":
    chosen = [a for a in sys.argv[1:] if not a.startswith("-")]
    show([asdict(b) for b in run_benchmarks(chosen or None)], as_json="--json" in sys.argv)
