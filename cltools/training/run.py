"""A run: its experiment, its results and its folder."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float32
from safetensors import safe_open
from safetensors.torch import save as serialised
from torch import Generator, Tensor, nn
from tqdm.auto import tqdm

from cltools.config import Experiment, differences
from cltools.datasets import ImageSet, what_reads
from cltools.encoders import Encoder, OwnBackbone, build_encoder, device_of
from cltools.errors import CltoolsError, NotFound, described
from cltools.evaluation import Diagnosis, LinearRecipe, Predictions, Recipes, bare, diagnose, embed, figures, predict
from cltools.evaluation.report import check_protocols
from cltools.files import IN_USE, absolute, claimed, reading, replacing, write_text
from cltools.mining import Similarities, State, reads_now, same_class, seeded, select, similarities
from cltools.mining.negatives import Closeness
from cltools.provenance import command, write_record
from cltools.training.checkpoint import REMEDY, UNFIT, Checkpoint, checksum_of
from cltools.training.inputs import Parts, TrainedOn, Views, drawn_view, evaluation_images, training_images
from cltools.training.record import RECORD, History, RunRecord, Split, Stretch, new_stretch, read_run_record
from cltools.training.state import Device, Memory, new_memory

ABOUT = "cltools"
"""The metadata key of the weights' file for their epochs and steps and a checksum."""
CONFIG, HISTORY, CHECKPOINT = "config.json", "history.csv", "checkpoint.pt"
WEIGHTS = "encoder.safetensors"
FILES = (CONFIG, HISTORY, CHECKPOINT, WEIGHTS, RECORD)
PATIENCE = 10.0
"""Seconds to wait while another evaluation is writing its figures."""
BATCH = 1000
"""Number of images that are viewed and embedded at once."""
GIVE_AGAIN = "It was passed as an object, which the config cannot name; give it again: Run.load(…,"
NOT_KEPT = "This run was trained on images given to fit(images=…), which are not saved with it."


def confusion_file(split: str, protocol: str) -> str:
    """Return the name of the file of a protocol's confusion matrix on a split."""
    return f"confusion-{split}-{protocol}.csv"


@dataclass
class Run:
    """A trained encoder with the experiment that it was trained by.

    Attributes:
        experiment: every setting.
        encoder: the encoder after the last epoch.
        history: a row per epoch.
        path: the run's folder; None for a run that is in memory only.
        memory: momentum copy and queue, for `fit(start_from=…)`; None in SimCLR mode.
        rule_state: what a learning negative rule has learned about each image; None for other rules.
        images: identity of the training images; None for a loaded run without checkpoint.
        parts: the user's parts that replaced the recipe's; for a loaded run, the backbone and the views only.
        steps: completed steps of the current epoch, if the run was stopped within an epoch.
        judged: the split that kNN is measured on while training; None if there is none, and for a loaded run.
        stretch: the record's entry for the epochs trained by this process; None for a run that was only loaded.

    Example:
        >>> from dataclasses import replace
        >>> from tempfile import TemporaryDirectory
        >>> from cltools import DataSettings, Run, TrainingSettings, fit, preset
        >>> short = TrainingSettings(epochs=1, batch=32, queue_size=64)
        >>> experiment = replace(preset("digits-moco"), data=DataSettings("digits", limit=64), training=short)
        >>> with TemporaryDirectory() as folder:
        ...     trained = fit(experiment, out=f"{folder}/run")
        ...     run = Run.load(f"{folder}/run")
        >>> run.experiment == experiment, len(run.history.rows), run.diagnose(n=10).anchors
        (True, 1, 10)
    """

    experiment: Experiment
    encoder: Encoder
    history: History
    path: Path | None = None
    memory: Memory | None = None
    rule_state: State | None = field(default=None, repr=False)
    images: TrainedOn | None = None
    steps: int = 0
    judged: Split | None = None
    stretch: Stretch | None = field(default=None, repr=False)
    parts: Parts = field(default_factory=Parts, repr=False)

    def save(self) -> None:
        """Write config, history, weights and record into the run's folder; each file is replaced atomically.

        Raises:
            ValueError: the run is in memory only, or the folder's record is damaged or describes another state of the
                run; nothing is written.
        """
        if (path := self.path) is None:
            raise CltoolsError("This run was kept in memory only; train it with fit(…, out=FOLDER) to save it.")
        with claimed(path / IN_USE, command(), PATIENCE):
            record, weights = self._record(path), self.bare().state_dict()
            write_text(path / CONFIG, self.experiment.to_json())
            self.history.save(path / HISTORY)
            # Cloned, because safetensors rejects weights that share memory.
            plain = {k: t.cpu().clone(memory_format=torch.contiguous_format) for k, t in weights.items()}
            about = f"{len(self.history.rows)} {self.steps}"
            with replacing(path / WEIGHTS) as part:
                part.write_bytes(serialised(plain, {ABOUT: f"{about} {checksum_of(plain, about)}"}))
            write_record(path / RECORD, record.to_plain())

    def bare(self) -> Encoder:
        """Return the encoder without wrappers such as DDP, which would change the weights' names."""
        encoder = bare(self.encoder)
        if not isinstance(encoder, Encoder):
            raise CltoolsError(f"The run's encoder is {described(encoder)}; restore the one that was trained.")
        inner = [name for name, _ in encoder.named_modules() if name.endswith((".module", "._orig_mod"))]
        if inner and not isinstance(encoder.backbone, OwnBackbone):
            raise CltoolsError(f"The run's encoder holds a part that is wrapped ({inner[0]}); restore the bare one.")
        return encoder

    def _record(self, path: Path) -> RunRecord:
        """Return the run's present record; for a loaded run, the one in the folder, which may hold more than the run.

        Raises:
            ValueError: the record is damaged, or describes another state of the run.
        """
        before, rows = read_run_record(path), self.history.rows
        if self.stretch is not None or before is None:
            return RunRecord.of(self, before)
        if other := [str(each) for each in differences(before.experiment, self.experiment) if each.decides]:
            raise CltoolsError(f"{path / CONFIG} was changed: {'; '.join(other)}. Put it back, or evaluate a copy.")
        if (before.epochs, before.steps) != (len(rows), self.steps):
            wrong = f"{path / RECORD} is of epoch {before.epochs}, step {before.steps}, not {len(rows)}, {self.steps}."
            raise CltoolsError(f"{wrong} Bring back {HISTORY} if it is missing or cut, or resume, and load it again.")
        return replace(before, images=self.images or before.images)

    def evaluate(
        self, split: Split = "test", protocols: Iterable[str] | None = None, *, linear_epochs: int | None = None
    ) -> dict[str, Any]:
        """Evaluate on the test images or the held-out ones; the report is also added to a saved run's `record.json`.

        Each protocol's confusion matrix is written to `confusion-SPLIT-PROTOCOL.csv` beside it; files of other splits
        and protocols are kept. The protocols' random draws are seeded by the run's seed, and their mirroring of images
        follows the run's view settings.

        Args:
            split: "test", or "val" for the images held out or for the folder's own split of that name.
            protocols: names from `cltools.evaluation.PROTOCOLS`; None for the default of `cltools.evaluate`.
            linear_epochs: epochs of the linear evaluation, which must be among the protocols; None for its 100.

        Raises:
            ValueError: the run was trained on images given to `fit(images=…)`, which are not saved; split "val" of a
                run that held nothing out; images without labels; an unknown protocol; `linear_epochs` without
                "linear"; or a damaged record.
        """
        selected = check_protocols(protocols, self.experiment.evaluation)
        if linear_epochs is not None and "linear" not in selected:
            raise CltoolsError("linear_epochs belongs to the linear evaluation; ask for that too (--protocol linear).")
        if self.images is not None and self.images.given:
            raise CltoolsError(f"{NOT_KEPT} Evaluate with: cltools.evaluate(run.encoder, train, test)")
        train, held_out = training_images(self.experiment)
        if split == "val" and held_out is None:
            raise CltoolsError('This run held no images out; train with data.holdout above 0 to evaluate on "val".')
        if (path := self.path) is not None:
            self._record(path)  # raises before the evaluation, which may take minutes, if the report could not be added
        judged = evaluation_images(self.experiment) if split == "test" or held_out is None else held_out
        recipes = Recipes() if linear_epochs is None else Recipes(linear=LinearRecipe(epochs=linear_epochs))
        recipes = recipes.like(self.experiment.views, self.experiment.seed)
        about = {"images": self.experiment.data.name, "split": split, "epochs": len(self.history.rows)}
        about |= {"steps": self.steps} if self.steps else {}
        stretch = self.stretch or new_stretch(device_of(self.encoder))

        def save(predictions: Predictions) -> None:
            """Save the figures so far, so that an interrupted evaluation does not lose them."""
            if path is None:
                return
            report = about | predictions.report()
            try:
                with claimed(path / IN_USE, command(), PATIENCE):
                    *_, protocol = predictions.predicted
                    write_text(path / confusion_file(split, protocol), predictions.confusion_csv(protocol))
                    write_record(path / RECORD, self._record(path).evaluated(report, stretch).to_plain())
                    if not (path / HISTORY).exists():
                        self.history.save(path / HISTORY)
            except (OSError, CltoolsError) as error:  # such as a read-only folder
                tqdm.write(f"{error} Measured but not saved: {figures(report)}.", sys.stderr)

        predictions = predict(self.encoder, train, judged, self.experiment.evaluation, selected, recipes, save)
        return about | predictions.report()

    def diagnose(self, *, images: ImageSet | None = None, n: int = 1000, seed: int = 0) -> Diagnosis:
        """Diagnose what the run's encoder and rules would select now, at full strength (see `compared_now`).

        The keys are the queue's, which come from the images trained on last, so that an anchor finds its own image
        among them more often than in training. Without a queue (SimCLR) the keys are both views of as many other
        images. Labels are read for counting and by the oracle. Memory grows with anchors times keys.

        Args:
            images: the training images, for a run on images given to `fit(images=…)`.
            n: number of training images drawn as anchors; all if there are fewer, and at most half without a queue.
            seed: seed of the anchors, of their views, and of the rules' draws.

        Raises:
            ValueError: the run's images, queue or views are missing, or the images are not those it was trained on.
        """
        if self.memory is None and self.experiment.training.mode == "moco":
            raise CltoolsError(f"This run has no queue, because its folder holds no {CHECKPOINT}; load it with one.")
        draws = seeded(seed, device_of(self.encoder))
        anchors, others = self._trained_on(images), None
        if self.memory is None:
            count = min(n, len(anchors) // 2)
            order = torch.randperm(len(anchors), generator=seeded(seed))
            anchors, others = anchors.select(order[:count]), anchors.select(order[count : 2 * count])
        s = compared_now(self, anchors.subset(n, seed), others, draws=draws)
        rules, temperature = self.experiment.rules_at(1.0), self.experiment.loss.temperature
        selection = select(s, *rules, temperature=temperature, generator=draws, state=self.rule_state)
        by = getattr(rules[0], "by", None)
        by = by if by in get_args(Closeness) else None  # a user's rule may use the name `by` differently
        return diagnose(s, selection, by=by, temperature=temperature)

    def _trained_on(self, images: ImageSet | None) -> ImageSet:
        """Return the training images without those held out; the ids of the queue's keys refer to them."""
        if images is None and self.images is not None and self.images.given:
            raise CltoolsError(f"{NOT_KEPT} Give them again: run.diagnose(images=…)")
        train, _ = training_images(self.experiment, images)
        known = self.images
        if known is not None and (difference := known.difference(TrainedOn.of(train, given=known.given))):
            raise CltoolsError(f"Trained on {known}. {difference} Give the same images in order: diagnose(images=…)")
        return train

    @classmethod
    def load(
        cls, path: str | Path, *, backbone: nn.Module | None = None, views: Views | None = None, device: Device = "cpu"
    ) -> "Run":
        """Load a run's folder.

        A backbone and views that the config names are imported and called, so load only folders that you trust.

        Args:
            path: the folder.
            backbone: the module that the run was trained with, if it was passed to `fit` as an object.
            views: the views that it was trained with, if they were passed as an object; only `diagnose` and snapshots
                use them.
            device: device of the encoder.

        Raises:
            FileNotFoundError: the folder holds no run, or one that has saved nothing yet.
            ValueError: a file is damaged; the backbone does not fit the weights, or was passed to `fit` as an object
                and is missing here; or a part that the config names is not found.
        """
        path = absolute(path)
        if path.is_file():
            raise CltoolsError(f"{path} is a file; name the folder of a run. {what_reads(path)}".rstrip())
        checkpoint = _checkpoint_of(path)
        if checkpoint is None and not ((path / CONFIG).is_file() and (path / WEIGHTS).is_file()):
            raise FileNotFoundError(f"{path} holds no trained run; train one: cltools train PRESET --out {path}")
        config = path / CONFIG
        experiment = read_config(config) if checkpoint is None or config.is_file() else checkpoint.experiment
        changed = differences(checkpoint.experiment, experiment) if checkpoint is not None else []
        if others := [str(each) for each in changed if each.decides and each.path != "training.epochs"]:
            raise CltoolsError(f"{config} was changed: {'; '.join(others)}. Restore it, or load a copy without it.")
        given = _given_of(path, checkpoint)
        if "backbone" in given and backbone is None:
            raise CltoolsError(f"{path} was trained with backbone={given['backbone']}. {GIVE_AGAIN} backbone=…).")
        own = replace(Parts.of(experiment, backbone=backbone, views=views), given=given)
        parts = own.resolved(experiment, "backbone", "views")
        weights, about = _weights_of(path, checkpoint)
        remedy = "Give backbone= if the run was trained with your own; otherwise one of the files was altered."
        with reading(f"{path / WEIGHTS} does not fit {path / CONFIG}", remedy):
            encoder = _encoder_for(weights, experiment, parts.backbone)
            encoder.load_state_dict(weights)
        encoder.to(device).to(memory_format=torch.channels_last).eval()  # as in training, so that figures repeat
        run = cls(experiment, encoder, History(), path, steps=int(about.split()[1]), parts=parts)
        if checkpoint is not None and about == checkpoint.about:
            run.history.rows = [{**row} for row in checkpoint.rows]
        elif (path / HISTORY).is_file():
            run.history = History.load(path / HISTORY)
        if checkpoint is not None:
            run.images = checkpoint.images
            run.memory = new_memory(checkpoint.experiment, encoder, device)  # the config may have been edited since
            with reading(f"{checkpoint.path} {UNFIT}", REMEDY):
                checkpoint.restore_memory(run.memory)
            if learned := checkpoint.contents["rule_state"]:
                run.rule_state = {name: tensor.to(device) for name, tensor in learned.items()}
        return run


@torch.no_grad()
def compared_now(run: Run, images: ImageSet, others: ImageSet | None = None, *, draws: torch.Generator) -> Similarities:
    """Compute the cosines of a view of each image with the run's keys and its other view, as in a training step.

    Unlike a step, it uses evaluation mode and float32, and only one view of each image is an anchor. Without a queue
    (SimCLR) the keys are both views of other images, because anchors that are each other's keys would not be
    independent. After only some dozens of training steps, the running statistics lag behind the batch statistics with
    which the queue's keys were computed, and purity is lower than it was in training.

    Args:
        run: the run. Its encoder makes z and its momentum copy z', or without a copy the encoder makes both. It is not
            changed.
        images: images on any device; an unknown label is of no class.
        others: the images whose views are the keys, without a queue.
        draws: generator of the views, on the encoder's device.
    """
    z, positive = two_views(run, images, draws)
    ids, labels = images.ids.to(z.device), images.labels.to(z.device)
    if run.memory is not None:
        keys, key_ids, key_labels = run.memory.queue.keys, run.memory.queue.ids, run.memory.queue.labels
    else:
        assert others is not None, "without a queue keys come from other images"
        keys = torch.cat(two_views(run, others, draws))
        key_ids, key_labels = others.ids.to(z.device).repeat(2), others.labels.to(z.device).repeat(2)
    known = (labels >= 0)[:, None] & (key_labels >= 0)
    own, same = ids[:, None] == key_ids, same_class(labels, key_labels) if known.any() else None
    reads = reads_now(*run.experiment.rules_at(1.0)) | {"positive_keys"}
    s = similarities(z, positive, keys, own, same_class=same, ids=(ids, key_ids), reads=reads, check=False)
    return replace(s, known=known)


@torch.no_grad()
def two_views(run: Run, images: ImageSet, draws: Generator) -> tuple[Float32[Tensor, "n d"], Float32[Tensor, "n d"]]:
    """Embed one view of each image by the run's encoder and another by its momentum copy, if any; as unit vectors.

    Raises:
        ValueError: the views were passed to `fit` as an object, but not to `Run.load`.
    """
    if "views" in run.parts.given and run.parts.views is None:
        raise CltoolsError(f"This run was trained with views={run.parts.given['views']}. {GIVE_AGAIN} views=…).")
    device, encoders = device_of(run.encoder), (run.encoder, run.memory.copy.encoder if run.memory else run.encoder)

    def unit_rows(encoder: nn.Module, pixels: Tensor) -> Tensor:
        view = drawn_view(pixels, run.experiment.views, run.parts.views, generator=draws)
        return nn.functional.normalize(embed(encoder, view, projection=True), dim=1)

    parts = (part.to(device) for part in torch.split(images.images, BATCH))
    first, second = zip(*([unit_rows(each, pixels) for each in encoders] for pixels in parts), strict=True)
    return torch.cat(first), torch.cat(second)


def read_config(path: Path) -> Experiment:
    """Read the experiment of a run's folder; errors name the file."""
    with reading(f"{path} cannot be read", "If it is of the first edition, cltools 0.1 reads it."):
        return Experiment.from_json(path.read_text(encoding="utf-8"), own_rules=True)


def _checkpoint_of(path: Path) -> Checkpoint | None:
    """Return a run's checkpoint, or None; warn if it cannot be read, because the weights can be used without it."""
    if not (path / CHECKPOINT).is_file():
        return None
    try:
        return Checkpoint.read(path / CHECKPOINT)
    except NotFound:
        raise
    except ValueError as error:
        tqdm.write(f"{error} The encoder's weights are used; momentum copy and queue are missing.", sys.stderr)
        return None


def _weights_of(path: Path, checkpoint: Checkpoint | None) -> tuple[dict[str, Tensor], str]:
    """Return the encoder's weights with their epochs and steps, which are the checkpoint's if the file has none.

    Raises:
        ValueError: the weights were altered, or differ from those of a checkpoint of the same step.
    """
    then = checkpoint.about if checkpoint else "0 0"
    if checkpoint is not None and not (path / WEIGHTS).is_file():
        tqdm.write(f"There is no {path / WEIGHTS}; the weights are taken from {CHECKPOINT}.", sys.stderr)
        return checkpoint.contents["encoder"], then
    with reading(f"{path / WEIGHTS} is damaged", f"Move it away: if {CHECKPOINT} is there, its weights are used."):
        with safe_open(path / WEIGHTS, "pt") as file:
            stored = (file.metadata() or {}).get(ABOUT)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — not a dict
        if stored is None:
            return weights, then
        about, _, checksum = stored.rpartition(" ")
        if checksum_of(weights, about) != checksum:
            raise CltoolsError("its numbers are not as they were written")
    if checkpoint is not None and about == then and checksum != checksum_of(checkpoint.contents["encoder"], about):
        raise CltoolsError(f"{path / WEIGHTS} and {CHECKPOINT} are of one step and differ: one is of another run.")
    return weights, about


def _given_of(path: Path, checkpoint: Checkpoint | None) -> Mapping[str, str]:
    """Return the parts passed to `fit` as objects, from the checkpoint or else the record, if it is readable."""
    known: Checkpoint | RunRecord | None = checkpoint
    with suppress(ValueError):  # a damaged record is reported when it is needed
        known = known or read_run_record(path)
    return known.given if known else {}


def _encoder_for(weights: dict[str, Tensor], experiment: Experiment, backbone: nn.Module | None) -> Encoder:
    """Build an encoder that fits the weights, which give the D of a user's backbone: its image size is not saved."""
    sizes = {size for tensor in weights.values() for size in tensor.shape}
    if not {experiment.encoder.hidden, experiment.encoder.projection} <= sizes:  # checked before memory is allocated
        raise CltoolsError("its heads have different sizes.")
    if backbone is None:
        return build_encoder(experiment.encoder, None)
    with torch.random.fork_rng(devices=[]):
        return Encoder(OwnBackbone(backbone), weights["head.0.weight"].shape[1], experiment.encoder)
