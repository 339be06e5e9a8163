"""The explorer: move a threshold, see which negatives are selected.

The page computes and draws (`front/`); Python holds the state too, and gives what it selects (`session.py`). Widgets
load when `explore` is first called.
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
    """An explorer of a snapshot: the last expression of a cell shows it.

    Args:
        snapshot: from `load_snapshot`, `take_snapshot` or `snapshot_of_embeddings`.
        state: where to start, also as its line of JSON; None for the run's own rules at its last epoch.
        other: another snapshot of the same images, to be shown beside the first as side B.
        show: which parts stand beside the axis with its two edges.
        train: what *Train with this rule* calls, as `train(experiment, callbacks=[…])` with the snapshot's experiment
            under the rules that are shown: `fit`, or `partial(fit, …)` with more of its arguments. None for no button.
        images: which the snapshot was taken of; None for the training images of its experiment.

    Raises:
        TypeError: no snapshot, such as the name of one.
        ValueError: a state that the snapshots cannot show, snapshots of different images, or an unknown part.
        ModuleNotFoundError: the notebooks' libraries are not installed.
    """
    from cltools.explorer.explorer import Explorer

    for given in [snapshot] if other is None else [snapshot, other]:
        if not isinstance(given, Snapshot):
            raise foreign(given, 'A snapshot, such as load_snapshot("shapes-moco") or snapshot_of_embeddings(array),')
    return Explorer(snapshot, state, other, show=show, train=train, images=images)
