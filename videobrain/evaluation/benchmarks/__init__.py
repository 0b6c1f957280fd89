"""Benchmarks from local directories, as their authors distribute them: questions, truth, and where the videos are."""

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Problem, Published, Split
from videobrain.evaluation.benchmarks.load import LoadedBenchmark, load_benchmark
from videobrain.evaluation.benchmarks.longvideobench import read_subtitles
from videobrain.evaluation.benchmarks.plain import read_plain
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.registry import (
    BenchmarkRow,
    benchmark_rows,
    default_benchmarks,
    find_benchmark,
    known_benchmarks,
    published_for,
)
from videobrain.evaluation.benchmarks.row import Row, option_number, option_of_text, without_letters
from videobrain.evaluation.benchmarks.source import Source
from videobrain.video import SubtitleLine

__all__ = [
    "Benchmark",
    "BenchmarkRow",
    "LoadedBenchmark",
    "Problem",
    "Published",
    "Row",
    "RowError",
    "Source",
    "Split",
    "SubtitleLine",
    "benchmark_rows",
    "default_benchmarks",
    "find_benchmark",
    "known_benchmarks",
    "load_benchmark",
    "option_number",
    "option_of_text",
    "published_for",
    "read_plain",
    "read_subtitles",
    "without_letters",
]
