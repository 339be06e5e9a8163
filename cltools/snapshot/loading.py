"""A snapshot by name, from a file, or of a run's folder: what a notebook shows, by one parameter."""

from pathlib import Path

from cltools.errors import CltoolsError, unknown
from cltools.snapshot.snapshot import Snapshot
from cltools.snapshot.taking import take_snapshot
from cltools.training import Run
from cltools.training.inputs import training_images

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "snapshots"


def shipped() -> dict[str, Path]:
    """The snapshots that come with the repository, by name: `<images>-<method>`."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.npz"))}


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
