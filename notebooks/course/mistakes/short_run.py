"""An encoder of digits after a training of seconds, for mistakes that need one. Made once for each seed."""

from dataclasses import replace
from functools import cache

import torch

from cltools.config import EvaluationSettings
from cltools.encoders import Encoder
from cltools.presets import preset
from cltools.training import fit

IMAGES = 512


@cache
@torch.enable_grad()
def short_run(seed: int) -> Encoder:
    """`digits-moco` on 512 images for two epochs; copy it before anything that changes it."""
    experiment = preset("digits-moco")
    return fit(
        replace(
            experiment,
            seed=seed,
            data=replace(experiment.data, limit=IMAGES),
            training=replace(experiment.training, epochs=2, batch=64, queue_size=256, device="cpu"),
            evaluation=EvaluationSettings(every=2, probe=False, test_limit=100),
        )
    ).encoder
