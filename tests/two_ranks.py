"""What two processes do together: run by torchrun, for the tests; each writes what it saw to FOLDER/RANK.pt."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from test_training_checkpoint import MOCO, POTENTIAL, RANDOM, SIMCLR, made, training
from torch import Tensor, nn

from cltools.config import Experiment
from cltools.mining import Band, DifficultAnchors, LearnedThreshold, NearestKeys, OraclePositives, SoftenedBand
from cltools.ranks import Ranks, joined
from cltools.training import Run, Stopped, fit
from cltools.training.inputs import Parts
from cltools.training.state import new_train_state, statistics
from cltools.training.step import Batch, train_step
from cltools.views import ViewSettings

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

STEPS = 5


def grouped(experiment: Experiment, **views: Any) -> Experiment:
    """Batch norm in groups that a rank holds whole, and every kind of draw for the views."""
    settings = ViewSettings(blur=0.5, rotation=10.0, **views)
    return replace(experiment, encoder=replace(experiment.encoder, bn_group=8), views=settings)


NOW = replace(POTENTIAL.positives, start=0.0, ramp=0.0, pick=None)
EXACT = {
    "simclr": grouped(SIMCLR),
    "potential": replace(grouped(POTENTIAL), positives=NOW),
    "one-sided": training(replace(grouped(POTENTIAL), positives=NOW), symmetric=False),
    "chunks": training(grouped(MOCO), chunk=5),
    "uncropped": grouped(MOCO, crop_scale=(1.0, 1.0)),
    "learned": replace(grouped(MOCO), negatives=LearnedThreshold(alpha=0.2, start=0.0)),
    "learned-chunks": replace(
        training(grouped(MOCO), chunk=5, symmetric=False), negatives=LearnedThreshold(alpha=0.2, start=0.0)
    ),
    "softened": replace(grouped(MOCO), positives=NearestKeys(k=3, skip=2, start=0.0), negatives=SoftenedBand()),
    "oracle": replace(grouped(MOCO), positives=OraclePositives(k=5, purity=0.6, start=0.0)),
    "difficult": replace(grouped(MOCO), negatives=DifficultAnchors(min_cosine=0.5, tolerated=0.2, anchor_weight=0.3)),
}
"""Without draws of rules, which each rank makes for itself."""


def blinds(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Views of one's own: half of the rows of each image, darkened as it is drawn for each image."""
    amount = torch.rand(len(images), 1, 1, 1, generator=generator)
    return images / 255 * torch.where(torch.arange(images.shape[2])[:, None] % 2 == 0, amount, 1.0)


VIEWS = {"own views": blinds}
EXACT["own views"] = EXACT["one-sided"]


class OwnBackbone(nn.Module):
    """Other weights in each process, as where nobody thought of seeding them, and a head that nothing reads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2))
        self.idle = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.layers(x), 1)


def everything(run: Run) -> Tensor:
    """All weights, statistics and keys of a run."""
    assert run.memory is not None
    tensors = [*run.encoder.state_dict().values(), *run.memory.copy.state_dict().values(), run.memory.queue.keys]
    return torch.cat([tensor.flatten().float() for tensor in tensors])


def trajectory(case: str, *, seed: int = 0) -> dict[str, list[Tensor]]:
    """Loss, gradients, weights and queue of some steps, as this process has them."""
    images, ranks, device = made(), Ranks.current(), torch.device("cpu")
    experiment = training(replace(EXACT[case], seed=seed), learning_rate=0.06)
    state = new_train_state(experiment, images, device, ranks, Parts(views=VIEWS.get(case)))
    seen: dict[str, list[Tensor]] = {name: [] for name in ("loss", "gradient", "weight", "id", "key", "statistic")}
    if state.rule_state is not None:
        state.rule_state["threshold"].fill_(0.9)  # among the cosines, where all would start above them
    for i in range(STEPS):
        rows = torch.arange(16 * i, 16 * (i + 1)) % len(images)
        batch = Batch(images.images[rows], images.ids[rows], images.labels[rows])
        result = train_step(state, batch, experiment, progress=0.5, labelled=True)
        assert state.rule_state is None or i == 0 or result.tally[0, Band.HARD] > 0
        seen["loss"].append(ranks.total(result.loss) / ranks.count)
        parameters = list(state.encoder.parameters())
        seen["gradient"].append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        seen["weight"].append(torch.cat([p.detach().flatten() for p in parameters]))
        if state.memory is not None:
            seen["id"].append(state.memory.queue.ids.clone())
            seen["key"].append(state.memory.queue.keys.clone())
    state.ranks.average_(statistics(state))
    modules = [state.encoder] if state.memory is None else [state.encoder, state.memory.copy]
    seen["learned"] = [each.float() for each in (state.rule_state or {}).values()]
    seen["statistic"] = [b.flatten().float() for module in modules for b in module.buffers()]
    return seen


def exchanges(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Each call of `Ranks`, on numbers that tell where they came from."""
    x = 100.0 * ranks.rank + torch.arange(6.0).view(6, 1)  # two views of three rows
    given = x.clone().requires_grad_()
    gathered = ranks.gathered_with_gradient(given, views=2)
    (gathered * (1 + ranks.rank) * torch.arange(12.0)[:, None]).sum().backward()
    mean = [torch.full((2,), float(ranks.rank)), torch.full((1, 3), 10.0 * ranks.rank)]
    ranks.average_(mean)
    try:
        ranks.check_agreed({"colour": "red", "number": ranks.rank})
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    turns = Path(folder / "turns.txt")
    with ranks.one_before_others(), turns.open("a", encoding="utf-8") as file:
        file.write(f"{ranks.rank}")
    return {
        "turns": turns.read_text(encoding="utf-8"),
        "gathered": ranks.gathered(x, views=2),
        "again": gathered.detach(),
        "gradient": given.grad,
        "own": ranks.own(gathered.detach(), views=2),
        "mean": mean,
        "total": ranks.total(torch.tensor(ranks.rank + 1)),
        "least": ranks.least(torch.tensor(ranks.rank + 1)),
        "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        "from_first": ranks.from_first(f"of {ranks.rank}"),
        "refusal": refusal,
    }


def runs(folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Whole runs, and the same stopped by a signal to one process and resumed."""
    seen: dict[str, Any] = {}
    for name, experiment in (("random", grouped(RANDOM)), ("simclr", grouped(SIMCLR))):
        called: list[Run] = []
        whole = fit(experiment, images=made(), out=folder / f"{name}-whole", callbacks=[called.append])

        step = fitting.train_step
        fitting.train_step = asking(step, number=7, wanted=ranks.rank == 1)
        try:
            fit(experiment, images=made(), out=folder / f"{name}-cut")
            message = ""
        except Stopped as stopped:
            message = str(stopped)
        fitting.train_step = step
        fit(experiment, images=made(), out=folder / f"{name}-cut", resume=True)
        seen[name] = {"called": len(called), "message": message, "rows": whole.history.rows}
    warm = fit(training(grouped(MOCO), epochs=1), images=made(), backbone=OwnBackbone(ranks.rank))
    seen["own"] = everything(warm)
    seen["start"] = everything(fit(grouped(MOCO), images=made(), backbone=OwnBackbone(7), start_from=warm))
    return seen


def asking(step: Callable[..., Any], number: int, wanted: bool) -> Callable[..., Any]:
    """The step, and in the one of that number a signal to this process."""
    seen: list[int] = []

    def train_step(*arguments: Any, **named: Any) -> Any:
        seen.append(1)
        if wanted and len(seen) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments, **named)

    return train_step


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        seen = {
            "trajectories": {case: trajectory(case) for case in EXACT},
            "exchanges": exchanges(folder, ranks),
            "runs": runs(folder, ranks),
        }
        torch.save(seen, folder / f"{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
