"""The explorer, in which one moves thresholds and sees which negatives are selected.

The page (`front/`) computes and draws. Python holds the same state and returns what it selects (`session.py`). The
libraries of widgets are loaded when `explore` is first called.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cltools.datasets import ImageSet
from cltools.errors import foreign
from cltools.explorer.state import State
from cltools.snapshot import Snapshot
from cltools.training import Run

if TYPE_CHECKING:
    from cltools.explorer.explorer import Explorer


def explore(
    snapshot: Snapshot,
    state: State | str | None = None,
    *,
    other: Snapshot | None = None,
    show: Iterable[str] = ("pictures", "map", "push", "cost"),
    train: Callable[..., Run] | None = None,
    images: ImageSet | None = None,
) -> "Explorer":
    """Return an explorer of a snapshot, which a notebook displays as the last expression of a cell.

    Args:
        snapshot: from `load_snapshot`, `take_snapshot` or `snapshot_of_embeddings`.
        state: the initial state, or its line of JSON; None for the run's own rules at its last epoch.
        other: another snapshot of the same images, shown beside the first as side B.
        show: the parts that are shown beside the axis with its two edges.
        train: called by the button *Train with this rule* as `train(experiment, callbacks=[…])`, with the snapshot's
            experiment and the rules that are shown: `fit`, or `partial(fit, …)` with further arguments. None for no
            button.
        images: the images that the snapshot was taken of; None for the training images of its experiment.

    Raises:
        TypeError: `snapshot` is not a snapshot (but a name, for example).
        ValueError: the snapshots cannot show the state, they are of different images, or a part is unknown.
        ModuleNotFoundError: the notebooks' libraries are not installed.

    Example:
        >>> from cltools import explore, load_snapshot
        >>> explorer = explore(load_snapshot("shapes-moco"))  # a cell that ends with `explorer` shows it
        >>> explorer.set(rule="RankBand", drop_closest=0.1, keep_within=0.5).rules[1].keep_within
        0.5
        >>> explorer.selection.negative_weight.sum()  # of the 1,500 keys of the anchor shown
        tensor(600.)
    """
    from cltools.explorer.explorer import Explorer

    for given in [snapshot] if other is None else [snapshot, other]:
        if not isinstance(given, Snapshot):
            raise foreign(given, 'A snapshot, such as load_snapshot("shapes-moco") or snapshot_of_embeddings(array),')
    return Explorer(snapshot, state, other, show=show, train=train, images=images)
