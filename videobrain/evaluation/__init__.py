"""Batch evaluation: benchmarks, and what a model's answers to them come to."""
