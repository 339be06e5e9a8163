"""The explorer in a notebook: a session with a page that computes and draws, and receives the states that Python sets.

The page responds without Python while a cell runs. Python receives the page's state as soon as the kernel is free, and
judges for rules that are implemented only in Python.
"""

import json
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from threading import RLock
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.core.getipython import get_ipython

from cltools.config import to_plain
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.explorer.front.bundle import bundle
from cltools.explorer.session import Session
from cltools.explorer.standalone import HERE, draw, epoch_data, page_data, parts, save_html
from cltools.explorer.state import SIDES, State, check
from cltools.snapshot import Snapshot, content_key, recorder_of, with_epoch
from cltools.training import Run

PYTHON = "python"
"""The author of states that Python has set."""

_shown: dict[str, tuple[str, list[Callable[[], None]]]] = {}
"""By the id of a cell: the run of the cell that shows explorers, and functions that close these."""


@cache
def module_script() -> str:
    """Return the page's script as the module that anywidget loads; it also passes its own source to a worker.

    The source is taken from the function's text, so that a saved notebook contains the script only once.
    """
    return (
        f"const made = () => {{\n{bundle(HERE / 'kernel.js', 'cltools')}return cltools;\n}};\n"
        "const code = `(${made})().serveCensus(self);`;\n"
        "export default { render: (context) => made().render(context, code) };\n"
    )


class Front(anywidget.AnyWidget):
    """The widget, whose traits are synchronised with its pages.

    Attributes:
        state: `{"revision": n, "author": name, "seen": m, "state": {…}}`, where m is the last revision that Python had
            sent before; pages and Python adopt each other's states.
        digest: digest of the snapshots, by which a page requests them once.
        show: the parts that are shown.
        trains: whether there is a button to train.
    """

    _esm = module_script()
    _css = (HERE / "page.css").read_text(encoding="utf-8")

    state: Any = traitlets.Unicode().tag(sync=True)
    digest: Any = traitlets.Unicode().tag(sync=True)
    show: Any = traitlets.List(traitlets.Unicode()).tag(sync=True)
    trains: Any = traitlets.Bool().tag(sync=True)


class Explorer(Session):
    """The question and answer for one anchor, the axis with its two edges, pictures, map, and controls of the rules.

    Attributes:
        errors: texts of the errors that requests of the page have raised.
        group: ids of the keys that were last circled on the map.
        widget: the anywidget.
    """

    def __init__(
        self, *session: Any, show: Iterable[str], train: Callable[..., Run] | None, images: ImageSet | None
    ) -> None:
        """Create an explorer; the arguments are those of `explore`, the positional ones those of the session."""
        super().__init__(*session)
        self.errors: list[str] = []
        self.group: tuple[int, ...] = ()
        self._train, self._images, self._stopped = train, images, False
        self._revision, self._sent, self._following = 0, 0, False
        self._lock = RLock()  # kernels may handle a page's message in another thread while a cell runs
        self.widget = Front(state=self._message(), digest=self._digest(), show=parts(show), trains=train is not None)
        self.widget.observe(self._on_state, "state")
        self.widget.on_msg(self._on_message)
        _replace_in_cell(self.close)

    def updated(self) -> None:
        """Send the state to the page, unless it came from there."""
        if not self._following:
            self._revision = self._sent = self._revision + 1
            self.widget.state = self._message()

    def _apply(self, state: State) -> None:
        with self._lock:
            super()._apply(state)

    def close(self) -> None:
        """Remove the explorer from its page and free its widgets; a training that it started stops after the epoch."""
        self._stopped = True
        self.widget.close()
        self.widget.layout.close()

    def follow(self) -> Callable[[Run], None]:
        """Return a callback that adds each epoch during training: `fit(experiment, callbacks=[explorer.follow()])`.

        Points move on the map by PCA. Later epochs that the explorer already has, such as those of an earlier run, are
        removed.

        Raises:
            ValueError: the explorer shows two snapshots, or one of other images.
        """
        recorder = recorder_of(self._only_snapshot(), self._images)

        def add(run: Run) -> None:
            recorder(run)
            with self._lock:
                self.extend(with_epoch(self._only_snapshot(), recorder, run))
                self.widget.digest = self._digest()
                added = epoch_data(self.snapshots[0], buffers := _Buffers(), [-1])
                self.widget.send({"added": added, "digest": self.widget.digest}, buffers)

        return add

    def _only_snapshot(self) -> Snapshot:
        if len(self.snapshots) == 2:
            raise CltoolsError("Two snapshots cannot follow training; show one: explore(explorer.snapshots[0]).")
        return self.snapshots[0]

    def train(self) -> Run:
        """Train with the active side's rules and temperature, and show the result as side B.

        Side A is not changed, so that the states before and after training can be compared.

        Raises:
            ValueError: the explorer was created without `train`, the images are not those of the snapshot, or the
                training was stopped by the button.
        """
        if self._train is None:
            raise CltoolsError("This explorer cannot train; create it with explore(snapshot, train=fit).")
        side, before = self.state.side, self.snapshots[0]
        loss = replace(before.experiment.loss, temperature=side.temperature)
        run = replace(before.experiment, positives=side.positives, negatives=side.negatives, loss=loss)
        recorder = recorder_of(before, self._images, [*before.epochs, run.training.epochs])

        self._stopped = False

        def report_progress(so_far: Run) -> None:
            self.widget.send({"training": f"epoch {len(so_far.history.rows)} of {run.training.epochs} is done"})
            if self._stopped:
                raise CltoolsError("Training was stopped; the explorer shows what it did before.")

        given = getattr(self._train, "keywords", {}).get("callbacks", ())  # of a partial(fit, callbacks=…)
        trained = self._train(run, callbacks=[*given, recorder, report_progress])
        with self._lock:
            self.put_beside(recorder.snapshot(trained), side)
            self.widget.digest = self._digest()
            self.widget.send({"renewed": self.widget.digest})
        return trained

    def _message(self) -> str:
        # "newest" says which epochs the author of a state has
        message = {"revision": self._revision, "author": PYTHON, "seen": self._sent, "count": len(self.snapshots)}
        return json.dumps(message | {"newest": self.snapshots[0].epochs[-1], "state": to_plain(self.state)})

    def _digest(self) -> str:
        """Return a digest of a page's data about the snapshots; data of equal digest are sent once."""
        return content_key(json.dumps([page_data(each, content_key) for each in self.snapshots]))

    def _on_state(self, change: dict[str, Any]) -> None:
        """Adopt a state that a page has set, unless the page had not yet seen the last state of Python.

        If the state is invalid, the page is reset, and the error is added to `errors`.
        """
        message = json.loads(change["new"])
        if message["author"] == PYTHON:
            return
        with self._lock:
            if message["seen"] != self._sent:  # older than the last state that Python has set
                self.widget.state = self._message()
                return
            self._revision, self._following = message["revision"], True
            try:
                self.restore(self.fitted(State.from_json(json.dumps(message["state"])), message["newest"]))
            except Exception as error:
                self._failed(error)
                self._following = False
                self.updated()
            finally:
                self._following = False

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        """Handle a page's message: send the snapshots or a judgement of rules in Python, train, or store a group."""
        answer, buffers = {"number": content.get("number")}, _Buffers()
        try:
            if "want" in content:
                data = [page_data(each, buffers) for each in self.snapshots]
                text = json.dumps(data, ensure_ascii=False)  # file names may contain surrogates
                answer |= {"digest": content["want"], "held": json.loads(text.encode("utf-8", "replace"))}
            elif "judge" in content:
                state, name = State.from_json(json.dumps(content["state"])), SIDES[content["judge"]]
                check(state, self.snapshots)
                chosen = self._judged(state.anchor, name, state.of(name)).selection
                for array in (chosen.band[0], chosen.negative_weight[0]):
                    buffers(array.numpy())
                answer["anchorWeight"] = 1.0 if chosen.anchor_weight is None else float(chosen.anchor_weight)
            elif "train" in content:
                self.train()
            elif "stop" in content:
                self._stopped = True
            else:
                self.group = tuple(content["group"])
        except (Exception, KeyboardInterrupt) as error:  # the page waits for an answer in any case
            self._failed(error)
            answer["error"] = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        self.widget.send(answer, buffers)

    def _failed(self, error: BaseException) -> None:
        """Store an error: the message of a user's mistake, the traceback of any other."""
        self.errors.append(str(error) if isinstance(error, ValueError) else "".join(traceback.format_exception(error)))

    def _repr_mimebundle_(self, **_: Any) -> Any:
        """Return the widget and, for viewers without widgets, its sentence."""
        data, metadata = self.widget._repr_mimebundle_() or ({}, {})
        return {**data, "text/plain": self.sentence}, metadata

    save_html = save_html

    def static(self) -> Any:
        """Return a still image of the explorer, as a matplotlib figure."""
        return draw(self)


class _Buffers(list[bytes]):
    """The buffers of a message; calling it with an array appends the array's bytes and returns their index."""

    def __call__(self, array: np.ndarray) -> int:
        self.append(np.ascontiguousarray(array).tobytes())
        return len(self) - 1


# explorers by notebook cell


def _replace_in_cell(close: Callable[[], None]) -> None:
    """Close the explorers of earlier runs of the running cell, and register `close` for the present run.

    Several explorers of the same run of a cell are all kept. Outside of notebooks, this does nothing.
    """
    cell, run = _running()
    if cell is None:
        return
    before, shown = _shown.get(cell, (run, []))
    if before != run:
        for close_old in shown:
            close_old()
        shown = []
    _shown[cell] = run, [*shown, close]


def _running() -> tuple[str | None, str]:
    """Return the ids of the running cell and of its present run; None for the cell outside of notebooks."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent: dict[str, Any] = kernel.get_parent("shell") if kernel else {}
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
