"""Results that others published for benchmarks: what one wants to see beside one's own."""

from __future__ import annotations

from videobrain.evaluation.benchmarks.benchmark import Published

_VIDEOMIND = "Liu et al., VideoMind, arXiv 2503.13444"
_AVP = "Wang et al., Active Video Perception, arXiv 2512.05774"


def published(
    benchmark: str, metric: str, *, split: str = "", videomind: tuple[float, float], avp: float | None = None
) -> tuple[Published, ...]:
    """What agents came to on a benchmark, in percent.

    Args:
        benchmark: Its name.
        metric: What was measured.
        split: On which part, where the sources say so.
        videomind: VideoMind with 2 and with 7 billion parameters.
        avp: Active Video Perception with Gemini-2.5-Pro, where it was measured on this benchmark.
    """
    small, large = videomind
    rows = [
        Published(benchmark, "VideoMind-2B", metric, small, _VIDEOMIND, split),
        Published(benchmark, "VideoMind-7B", metric, large, _VIDEOMIND, split),
    ]
    if avp is not None:
        rows.append(Published(benchmark, "AVP with Gemini-2.5-Pro", metric, avp, _AVP, split))
    return tuple(rows)
