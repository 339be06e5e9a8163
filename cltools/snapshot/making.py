"""Snapshots by name: `python -m cltools snapshot` makes those that ship, `load_snapshot` finds what may be shown."""

from dataclasses import replace
from pathlib import Path

from cltools import presets
from cltools.errors import CltoolsError, unknown
from cltools.files import IN_USE, check_writable, claimed
from cltools.provenance import command
from cltools.snapshot.maps import need_umap, with_umap
from cltools.snapshot.snapshot import Snapshot
from cltools.snapshot.taking import Recorder, take_snapshot
from cltools.training import Run, fit
from cltools.training.inputs import training_images

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "snapshots"


def shipped() -> dict[str, Path]:
    """The snapshots that come with the repository, by name: `<images>-<method>`."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.npz"))}


def make_snapshot(
    preset: str,
    out: Path,
    after: tuple[int, ...] = (1, 5, 10, 20, 30),
    n: int = 1500,
    seed: int = 0,
    umap: tuple[int, ...] = (0, 1, 2),
    laptop: bool = False,
    root: str | None = None,
    device: str = "auto",
) -> str:
    """Train a preset, and keep what it thinks of some training images at several epochs, in one file.

    Args:
        preset: IMAGES-METHOD, such as shapes-potential.
        out: The snapshot, .npz; a file that is there is replaced. The run itself is not kept.
        after: Epochs after which embeddings are kept.
        n: Training images, at most.
        seed: Seed of the run, of the images drawn and of their views.
        umap: Seeds of maps by UMAP, beside the one by PCA; none where none is named.
        laptop: The CPU setting of any preset.
        root: Where images lie; else the variable CLTOOLS_DATA, else data/.
        device: "auto" is CUDA where there is one.

    Returns:
        A line that says what was kept.

    Raises:
        ValueError: no such preset, or epochs that its training does not reach.
        OSError: `out` cannot be written; found before the training.
        ModuleNotFoundError: maps by UMAP are asked for, and umap-learn is not installed.
    """
    if umap:
        need_umap()  # before minutes of training
    experiment = presets.laptop(presets.preset(preset)) if laptop else presets.preset(preset)
    last = experiment.training.epochs
    if not after or not all(1 <= epoch <= last for epoch in after):
        raise CltoolsError(f"snapshot: after is {after}; name epochs from 1 to {last}, {preset}'s last.")
    data, training = replace(experiment.data, root=root), replace(experiment.training, device=device)
    experiment = replace(experiment, data=data, training=training, seed=seed)
    check_writable(out)
    with claimed(out.with_name(f"{out.name}.{IN_USE}"), command()):
        images, _ = training_images(experiment)
        recorder = Recorder(images, n, seed, epochs=after)
        snapshot = with_umap(recorder.snapshot(fit(experiment, images=images, callbacks=[recorder])), umap)
        snapshot.save(out)
    epochs, size = ", ".join(map(str, snapshot.epochs)), out.stat().st_size / 2**20
    return f"{out}: {len(snapshot):,} images after epochs {epochs}, {size:.1f} MiB"


def load_snapshot(source: str | Path, *, n: int = 2000, seed: int = 0) -> Snapshot:
    """A snapshot to explore.

    Args:
        source: the name of one that comes with the repository, such as "shapes-moco"; a file (.npz) that
            `Snapshot.save` wrote; or a run's folder, of whose training images one is taken now.
        n: of a run's folder, at most that many images.
        seed: of a run's folder, of the images' draw and of their views.

    Raises:
        FileNotFoundError: no such file (.npz), or a folder without a trained run.
        ValueError: no such name, one that is damaged or foreign, or a run on images given to `fit(images=…)`.
    """
    known = shipped()
    if str(source) in known:
        return Snapshot.load(known[str(source)])
    path = Path(source).expanduser()
    if path.is_dir():
        run = Run.load(path)
        if run.images is not None and run.images.given:
            wrong = f"The run in {path} was trained on images given to fit(images=…), and does not keep them."
            raise CltoolsError(f"{wrong} Take a snapshot of it with: take_snapshot(Run.load({str(path)!r}), images)")
        images, _ = training_images(run.experiment)
        return take_snapshot(run, images, n, seed)
    if path.suffix == ".npz" or path.is_file():
        return Snapshot.load(path)
    error = unknown("snapshot", str(source), known, otherwise="There is no file or folder of that name either.")
    raise CltoolsError(f"{error} Shipped: {', '.join(known) or 'none'}; or name a file (.npz) or a run's folder.")
