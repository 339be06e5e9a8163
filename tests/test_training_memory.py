"""How much memory a run on a laptop takes, measured as the peak of a process of its own."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = """
from dataclasses import replace
import torch
from cltools import ImageSet, fit, laptop, preset

ids = torch.arange(10_000)
pixels = torch.randint(0, 256, (len(ids), 3, 32, 32), dtype=torch.uint8)
images = ImageSet(pixels, ids % 10, ids, tuple(map(str, range(10))), "random", "train")
experiment = laptop(preset("cifar10-potential"))
settings = replace(experiment.training, epochs=1, device="cpu")
mined = replace(experiment.positives, start=0.0, ramp=0.0)
data = replace(experiment.data, holdout=0.1)
run = fit(replace(experiment, training=settings, positives=mined, data=data), images=images)
assert run.history.rows[0]["knn"] > 0 and run.history.rows[0]["mined"] > 0
"""


@pytest.mark.slow
def test_a_laptop_run_stays_under_two_gibibytes() -> None:
    subprocess.run([sys.executable, "-c", RUN], check=True, cwd=ROOT)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * 2**20  # in KiB, of the largest child so far
