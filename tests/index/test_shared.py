"""What an abandoned loading of the encoder does to the end of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABANDONED = """
import anyio, torch
from videobrain.index import SharedEncoder

torch.set_num_threads(1)

class Slow:
    name, weights_local = "slow", True

    def load(self):
        matrix = torch.rand(1000, 1000)
        for _ in range(100):
            torch.mm(matrix, matrix)
        print("loaded")

async def main():
    with anyio.move_on_after(0.1):
        await SharedEncoder(Slow()).load()
    print("abandoned", flush=True)

anyio.run(main)
"""


@pytest.mark.timeout(120)
def test_a_process_ends_well_while_an_encoder_is_being_loaded() -> None:
    # Stopped amid a product of matrices, the thread would abort the process.
    done = subprocess.run([sys.executable, "-c", ABANDONED], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["abandoned", "loaded"]), done.stderr
