"""An encoder of digits that was trained for seconds, for mistakes that need one. It is trained once per seed."""

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
    """Train `digits-moco` on 512 images for two epochs; copy the encoder before you change it."""
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
