"""The training setting of a notebook: `choose` looks for a GPU and images, and describes the resulting setting."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from cltools.config import Experiment, from_plain, to_plain
from cltools.datasets import ImageSet, data_root, image_sets
from cltools.encoders import resolve_device
from cltools.errors import CltoolsError, unknown
from cltools.evaluation import LinearRecipe, Recipes, limited
from cltools.mining import NegativeRule, PositiveRule
from cltools.presets import laptop, preset
from cltools.provenance import device_name
from cltools.reports.table import changes
from cltools.training.inputs import evaluation_images, training_images
from cltools.training.record import RunRecord
from cltools.training.run import CONFIG, read_config
from course.results import recorded_runs

SHORT = {"digits": 12, "shapes": 8}
"""Epochs on embedded images, for about a minute on two cores; their presets have 30."""
RECIPE, SHORTENED = LinearRecipe().epochs, 10
"""Epochs of the linear evaluation: in the recipe, and on a CPU."""


@dataclass(frozen=True)
class Setting:
    """The experiment to train, its folder, and the reasons.

    Attributes:
        experiment: every setting.
        folder: the run's folder.
        linear_epochs: epochs of the linear evaluation; fewer than 100 mean a shortened one.
        words: what was found on this machine and the setting that follows, in Markdown.
    """

    experiment: Experiment
    folder: Path
    linear_epochs: int
    words: str

    @property
    def images(self) -> str:
        """The name of the data set."""
        return self.experiment.data.name

    @property
    def device(self) -> str:
        """The device of the training, such as "cuda"."""
        return str(resolve_device(self.experiment.training.device))

    @property
    def recipes(self) -> Recipes:
        """Recipes of protocols that train, as in the run's own evaluation, with `linear_epochs` for the linear one."""
        linear = LinearRecipe(epochs=self.linear_epochs)
        return Recipes(linear=linear).like(self.experiment.views, self.experiment.seed)

    def load(self, split: Literal["train", "test"]) -> ImageSet:
        """Load the training images, or the images for evaluation."""
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
    """Choose the setting for this machine.

    Runs on embedded images are short; CIFAR and TinyImageNet use the whole preset on a GPU, and the `laptop` setting
    on a CPU.

    Args:
        images: the name of a data set; "auto" is cifar10 if its images are present, or if there is a GPU and they may
            be downloaded, else shapes.
        method: the method of the preset `<images>-<method>`.
        rule: `explorer.rules`, or one of the two, instead of the preset's.
        seed: the seed of the run.
        out: each setting gets its own folder in this folder. If it contains a run itself, that run is used with its
            settings, and the other arguments are ignored.
        download: whether missing images may be downloaded.
        root: the folder of the data; None for the default.

    Raises:
        ValueError: there are no such images, no such method, or no such kind of rule.
        FileNotFoundError: images that were named are not present and may not be downloaded.
    """
    out, gpu = Path(out), torch.cuda.is_available()
    machine = f"**GPU:** {device_name(torch.device('cuda'))}." if gpu else "**GPU:** none."
    if (out / CONFIG).is_file():
        experiment = read_config(out / CONFIG)
        if experiment.data.name in image_sets():
            _check_here(experiment.data.name, is_here(experiment.data.name, experiment.data.root), download)
        kept = f"**Run:** `{out}` holds one, so its settings are used and the other parameters are ignored."
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
    """Return the experiment with other rules: a positive one, a negative one, or a pair such as `explorer.rules`.

    Raises:
        ValueError: it is something else.
    """
    for each in () if rule is None else rule if isinstance(rule, tuple) else (rule,):
        if isinstance(each, PositiveRule):
            experiment = replace(experiment, positives=each)
        elif isinstance(each, NegativeRule):
            experiment = replace(experiment, negatives=each)
        else:
            raise CltoolsError(
                f"RULE is {each!r}, which is not a rule; give explorer.rules, or a rule such as RankBand(0.1, 0.5)."
            )
    return experiment


STORED = {
    "cifar10": (("cifar10/train", "cifar10/test"), ("cifar-10-batches-py",), ("cifar-10-python.tar.gz",)),
    "cifar100": (("cifar100/train", "cifar100/test"), ("cifar-100-python",), ("cifar-100-python.tar.gz",)),
    "tinyimagenet": (("tiny-imagenet-200",), ("tiny-imagenet-200.zip",)),
}
"""Possible paths of a downloaded data set below the data root: as a tree of images, unpacked, or as an archive."""


def is_here(name: str, root: str | None = None) -> bool:
    """Return whether the images of a data set, or their archive, are on this machine; neither is read."""
    folder = data_root(root)
    return name in SHORT or any(all((folder / path).exists() for path in paths) for paths in STORED.get(name, ()))


def how_long(experiment: Experiment, records: Mapping[Path, RunRecord] | None = None) -> str:
    """Describe how long a run of these settings took according to the records, with any seed.

    Args:
        experiment: the settings.
        records: records of runs; None for those that come with the course.
    """
    took: dict[str, list[float]] = {}
    for record in (recorded_runs() if records is None else records).values():
        if record.epochs == record.asked and _same_but_for_the_seed(experiment, record.experiment):
            device = record.stretches[-1].hardware.get("device", "an unknown device")
            took.setdefault(device, []).append(record.seconds)
    if not took:
        return "**A full run:** not measured. After one epoch, the line above the curves says how long this one takes."
    spans = "; ".join(f"{_span(seconds)} on {device}" for device, seconds in took.items())
    return f"**A full run**, of {experiment.training.epochs} epochs, took {spans}, by the records."


def _same_but_for_the_seed(experiment: Experiment, recorded: Mapping[str, Any]) -> bool:
    """Return whether two settings are equal up to the seed; settings that an older record lacks have their defaults."""
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
            f"The images of {name} are not on this machine. Set DOWNLOAD = True to download them, put them into "
            f"{data_root()}, or use the embedded images: IMAGES = 'shapes'."
        )


def _fitted(name: str, method: str, gpu: bool) -> Experiment:
    """Return the preset adapted to this machine; short runs are evaluated every other epoch."""
    experiment = preset(f"{name}-{method}")
    if name in SHORT:
        short = replace(experiment.training, epochs=SHORT[name], checkpoint_every=1)
        return replace(experiment, training=short, evaluation=replace(experiment.evaluation, every=2))
    return experiment if gpu else laptop(experiment)


def _linear_epochs(experiment: Experiment) -> int:
    return RECIPE if resolve_device(experiment.training.device).type == "cuda" else SHORTENED


def _digest(experiment: Experiment) -> str:
    """Return a short digest of the settings, so that different settings use different folders."""
    return sha256(json.dumps(to_plain(experiment), sort_keys=True).encode()).hexdigest()[:6]


def _about_images(here: Mapping[str, bool], *, wanted: bool) -> str:
    names = ", ".join(f"`{name}`" for name, there in here.items() if there)
    return f"**Images found:** {names}." + " With this GPU, use CIFAR-10: set `DOWNLOAD = True`." * wanted


def _listed(*lines: str) -> str:
    """Format lines as a list in Markdown."""
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
        return f"**Folder:** `{folder}` already contains this run: it is resumed, or loaded if it is finished."
    return f"**Folder:** the run will be saved in `{folder}`."
