"""What a notebook trains on this machine: `choose` looks for a GPU and images, and says in words what follows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from cltools.config import Experiment, from_plain, to_plain
from cltools.datasets import ImageSet, data_root, image_sets
from cltools.errors import CltoolsError, unknown
from cltools.evaluation import LinearRecipe, Recipes, limited
from cltools.mining import NegativeRule, PositiveRule
from cltools.presets import laptop, preset
from cltools.provenance import device_name
from cltools.reports.table import changes
from cltools.training.inputs import evaluation_images, training_images
from cltools.training.record import RunRecord
from cltools.training.run import CONFIG, read_config
from cltools.training.state import resolve_device
from course.results import recorded_runs

SHORT = {"digits": 12, "shapes": 8}
"""Epochs on embedded images, for about a minute on two cores; their presets have 30."""
RECIPE, SHORTENED = LinearRecipe().epochs, 10
"""Epochs of the linear evaluation: the recipe's, and on a CPU."""


@dataclass(frozen=True)
class Setting:
    """What is trained, where it lies, and why.

    Attributes:
        experiment: every setting.
        folder: of the run.
        linear_epochs: of the linear evaluation; fewer than 100 are shortened.
        words: what was found on this machine and what follows, in Markdown.
    """

    experiment: Experiment
    folder: Path
    linear_epochs: int
    words: str

    @property
    def images(self) -> str:
        """The set's name."""
        return self.experiment.data.name

    @property
    def device(self) -> str:
        """Where it is trained, such as "cuda"."""
        return str(resolve_device(self.experiment.training.device))

    @property
    def recipes(self) -> Recipes:
        """Of the protocols that train, as the run's own evaluation has them, the linear one as long as is said here."""
        linear = LinearRecipe(epochs=self.linear_epochs)
        return Recipes(linear=linear).like(self.experiment.views, self.experiment.seed)

    def load(self, split: Literal["train", "test"]) -> ImageSet:
        """The images trained on, or those judged by."""
        if split == "test":
            return limited(evaluation_images(self.experiment), self.experiment.evaluation)
        return training_images(self.experiment)[0]

    def __repr__(self) -> str:
        return self.words

    def _repr_markdown_(self) -> str:
        return self.words


def choose(
    images: str = "auto",
    method: str = "potential",
    *,
    rule: Any = None,
    seed: int = 0,
    out: str | Path = "../runs/05",
    download: bool = False,
    root: str | None = None,
) -> Setting:
    """The setting for this machine.

    Embedded images are trained on for a short while; CIFAR and TinyImageNet with the whole preset on a GPU, and with
    the `laptop` setting on a CPU.

    Args:
        images: a set's name; "auto" is cifar10 where its images are here, or where there is a GPU and they may be
            downloaded, else shapes.
        method: of the preset `<images>-<method>`.
        rule: `explorer.rules`, or one of the two, in place of the preset's.
        seed: of the run.
        out: in this folder each setting gets a folder of its own. If it holds a run itself, that run is meant, with
            the settings it has, and nothing else is read.
        download: whether missing images may be downloaded.
        root: where data lie; None for the default.

    Raises:
        ValueError: no such images, method or kind of rule.
        FileNotFoundError: images that are asked for by name are not here and may not be downloaded.
    """
    out, gpu = Path(out), torch.cuda.is_available()
    machine = f"**GPU:** {device_name(torch.device('cuda'))}." if gpu else "**GPU:** none."
    if (out / CONFIG).is_file():
        experiment = read_config(out / CONFIG)
        if experiment.data.name in image_sets():
            _check_here(experiment.data.name, is_here(experiment.data.name, experiment.data.root), download)
        kept = f"**Run:** `{out}` holds one, so its settings stand and the other parameters are not read."
        return Setting(
            experiment,
            out,
            _linear_epochs(experiment),
            _listed(machine, kept, f"**Its settings:** {_settings(experiment)}."),
        )
    here = {name: is_here(name, root) for name in image_sets()}
    name = _name(images, here, gpu, download)
    experiment = replace(with_rules(_fitted(name, method, gpu), rule), seed=seed)
    folder = out / f"{name}-{method}-seed-{seed}-{_digest(experiment)}"
    experiment = replace(experiment, data=replace(experiment.data, download=download, root=root))
    length = how_long(with_rules(preset(f"{name}-{method}"), rule))
    words = _listed(
        machine,
        _about_images(here, wanted=gpu and images == "auto" and name != "cifar10"),
        _what(experiment, gpu),
        length,
        _lies(folder),
    )
    return Setting(experiment, folder, _linear_epochs(experiment), words)


def with_rules(experiment: Experiment, rule: Any) -> Experiment:
    """The experiment with other rules: a positive one, a negative one, or the pair that `explorer.rules` is.

    Raises:
        ValueError: something else.
    """
    for each in () if rule is None else rule if isinstance(rule, tuple) else (rule,):
        if isinstance(each, PositiveRule):
            experiment = replace(experiment, positives=each)
        elif isinstance(each, NegativeRule):
            experiment = replace(experiment, negatives=each)
        else:
            raise CltoolsError(
                f"RULE holds {each!r}, which is no rule; give explorer.rules, or one such as RankBand(0.1, 0.5)."
            )
    return experiment


STORED = {
    "cifar10": (("cifar10/train", "cifar10/test"), ("cifar-10-batches-py",), ("cifar-10-python.tar.gz",)),
    "cifar100": (("cifar100/train", "cifar100/test"), ("cifar-100-python",), ("cifar-100-python.tar.gz",)),
    "tinyimagenet": (("tiny-imagenet-200",), ("tiny-imagenet-200.zip",)),
}
"""Where a set that has to be downloaded may lie below the data root: as a tree of pictures, unpacked, or packed."""


def is_here(name: str, root: str | None = None) -> bool:
    """Whether a set's images, or the archive they come in, lie on this machine; neither is read."""
    folder = data_root(root)
    return name in SHORT or any(all((folder / path).exists() for path in paths) for paths in STORED.get(name, ()))


def how_long(experiment: Experiment, records: Mapping[Path, RunRecord] | None = None) -> str:
    """How long a run of these settings took, where records have measured it; any seed counts.

    Args:
        experiment: the settings.
        records: of runs; None for those that come with the course.
    """
    took: dict[str, list[float]] = {}
    for record in (recorded_runs() if records is None else records).values():
        if record.epochs == record.asked and _same_but_for_the_seed(experiment, record.experiment):
            device = record.stretches[-1].hardware.get("device", "an unknown device")
            took.setdefault(device, []).append(record.seconds)
    if not took:
        return "**A full run:** not measured. The line above the curves tells how long this one takes, an epoch on."
    said = "; ".join(f"{_span(seconds)} on {device}" for device, seconds in took.items())
    return f"**A full run**, of {experiment.training.epochs} epochs, took {said}, by the records."


def _same_but_for_the_seed(experiment: Experiment, recorded: Mapping[str, Any]) -> bool:
    """Whether settings decide the same result; a record lacks settings that are newer than it, at their defaults."""
    try:
        then = from_plain(Experiment, recorded)
    except ValueError:  # a reader's own rule, or settings of another version
        return False
    return then.data.name == experiment.data.name and not changes(experiment, then)


def _span(seconds: list[float]) -> str:
    low, high = min(seconds) / 60, max(seconds) / 60
    return f"{low:.1f} minutes" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f} minutes"


def _name(images: str, here: Mapping[str, bool], gpu: bool, download: bool) -> str:
    if images == "auto":
        return "cifar10" if here["cifar10"] or (gpu and download) else "shapes"
    if images not in here:
        raise unknown("image set", images, here, otherwise='Or "auto".')
    _check_here(images, here[images], download)
    return images


def _check_here(name: str, here: bool, download: bool) -> None:
    if not here and not download:
        raise FileNotFoundError(
            f"The images of {name} are not on this machine. Set DOWNLOAD = True to fetch them, put them into "
            f"{data_root()}, or take the embedded images: IMAGES = 'shapes'."
        )


def _fitted(name: str, method: str, gpu: bool) -> Experiment:
    """The preset as this machine can train it; measured every other epoch where it is short."""
    experiment = preset(f"{name}-{method}")
    if name in SHORT:
        short = replace(experiment.training, epochs=SHORT[name], checkpoint_every=1)
        return replace(experiment, training=short, evaluation=replace(experiment.evaluation, every=2))
    return experiment if gpu else laptop(experiment)


def _linear_epochs(experiment: Experiment) -> int:
    return RECIPE if resolve_device(experiment.training.device).type == "cuda" else SHORTENED


def _digest(experiment: Experiment) -> str:
    """A few letters that differ where settings do, so that other settings never meet the folder of these."""
    return sha256(json.dumps(to_plain(experiment), sort_keys=True).encode()).hexdigest()[:6]


def _about_images(here: Mapping[str, bool], *, wanted: bool) -> str:
    found = ", ".join(f"`{name}`" for name, there in here.items() if there)
    return f"**Images here:** {found}." + " With this GPU you want CIFAR-10: set `DOWNLOAD = True`." * wanted


def _listed(*lines: str) -> str:
    """Lines as a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def _what(experiment: Experiment, gpu: bool) -> str:
    short = experiment.data.name in SHORT
    kind = "a short run" if short else "the whole preset" if gpu else "the `laptop` setting"
    return f"**So this notebook trains** {kind} on {_settings(experiment)}."


def _settings(experiment: Experiment) -> str:
    training, data = experiment.training, experiment.data
    epochs = f"{training.epochs} epoch{'s' * (training.epochs > 1)}"
    limit = "" if data.limit is None else f", {data.limit:,} of the images"
    return (
        f"`{data.name}`: {epochs}, batch {training.batch}, {training.keys:,} keys, "
        f"encoder `{experiment.encoder.backbone}`{limit}, seed {experiment.seed}"
    )


def _lies(folder: Path) -> str:
    if (folder / CONFIG).is_file():
        return f"**Folder:** `{folder}` holds a run already: it is gone on with, or loaded if it is finished."
    return f"**Folder:** `{folder}` is where it will lie."
