"""One step of training: views, encoder, similarities, selection, loss, update, enqueue. Asks the device nothing.

Every rank is given the whole batch and draws for all of it; its share is what it makes views and anchors of. Keys are
exchanged, so that anchors meet the same ones, and the queue takes them in the same order, however many ranks there are.

A small encoder's step is a thousand small pieces of work, and a GPU has done each before Python has asked for the next:
a ResNet-18 at batch 256 waits more than it works. So a step can be recorded once as a CUDA graph, which asks for all of
them at once, and replayed (`Replay`). What changes from step to step is written into memory that the graph reads: the
batch and the learning rate. What it draws comes from the learner's generators, which go on as they do without it. The
queue is filled outside of it. Whatever else Python decides or counts within a step is decided once, when the step is
recorded.

Legend: B images of the batch, b of this rank's share (alone: all), A anchors (2b with both views), K keys, d embedding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from cltools.config import Experiment
from cltools.contrast import contrastive_loss, mean_over_anchors
from cltools.mining import NegativeRule, PositiveRule, Selection, Similarities
from cltools.training.inputs import drawn_view
from cltools.training.learner import Learner, set_rate
from cltools.training.record import tally_of

Rules = tuple[PositiveRule, NegativeRule]
Two = tuple[Tensor, Tensor]
"""The same of anchors [A] and of keys [K]."""


@dataclass(frozen=True)
class Batch:
    """Images uint8 [B, 3, H, W] with their ids and labels int64 [B]."""

    images: Tensor
    ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class StepInfo:
    """What `fit(on_step=…)` is called with after each update, before the queue takes the new keys.

    Everything lies on the device: to read a number of it (`float(info.loss)`) waits for the device, to add it up there
    does not. The cosines are still bound to the step's graph; keep `.detach()` of them.

    Attributes:
        step: its number in the run, from 1.
        loss: float32 [], the mean over this process's anchors.
        similarities: what was compared.
        selection: what the rules chose.
    """

    step: int
    loss: Tensor
    similarities: Similarities
    selection: Selection


OnStep = Callable[[StepInfo], object] | None


@dataclass(frozen=True)
class StepResult:
    """What a step leaves for the history, on the device, of this rank's anchors, and how many these are."""

    loss: Tensor
    tally: Tensor
    anchors: int


def batches(images: Tensor, ids: Tensor, labels: Tensor, size: int, order: Tensor) -> Iterator[Batch]:
    """Batches of `size` images in this order; a smaller last one is dropped."""
    for start in range(0, len(order) - size + 1, size):
        index = order[start : start + size]
        yield Batch(images[index], ids[index], labels[index])


def train_step(
    learner: Learner, batch: Batch, experiment: Experiment, *, progress: float, labelled: bool, on_step: OnStep = None
) -> StepResult:
    """Update the learner by one batch.

    The queue takes the second view's keys once, after the backward pass, so that no anchor meets its own batch there.

    Args:
        learner: changed in place.
        batch: the whole of it, on the learner's device, which divides by the ranks.
        experiment: settings; schedules are resolved here.
        progress: share of training done before this step.
        labelled: whether labels are known; they reach the oracle and the diagnosis only.
        on_step: called with what the step compared, chose and lost; not with anchors taken in chunks, of which none
            holds the whole step.
    """
    rules = experiment.rules_at(progress)
    result, new_keys = update(learner, batch, experiment, rules, labelled=labelled, on_step=on_step)
    enqueue(learner, batch, new_keys)
    return result


def update(
    learner: Learner, batch: Batch, experiment: Experiment, rules: Rules, *, labelled: bool, on_step: OnStep = None
) -> tuple[StepResult, Tensor | None]:
    """All of a step that is computed, and the new keys [B, d] for the queue (MoCo).

    Arguments as of `train_step`.
    """
    tallies: list[Tensor] = []
    weights: list[Tensor | None] = []
    measured: list[Tensor] = []
    seen: list[tuple[Similarities, Selection]] = []

    def count(s: Similarities, selection: Selection) -> None:
        tallies.append(tally_of(selection.band, s.same_class))
        weights.append(selection.anchor_weight)
        if selection.measured is not None:
            measured.append(selection.measured)
        if on_step is not None:
            seen.append((s, selection))

    vectors, ids, labels, new_keys = _compared(learner, batch, experiment)
    chunk = experiment.training.chunk if on_step is None else len(vectors[0])
    losses = contrastive_loss(
        *vectors, *rules, experiment.loss, ids=ids, labels=labels if labelled else None, generator=learner.chance,
        state=learner.rule_state, chunk=chunk, observe=count, check=False,
    )  # fmt: skip
    loss = mean_over_anchors(losses, weights, learner.ranks)
    learner.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    learner.optimizer.step()
    if learner.rule_state is not None and measured:
        views = experiment.training.anchors_per_image
        of_all = learner.ranks.gathered(torch.cat(measured), views)
        rules[1].learn(learner.rule_state, batch.ids, torch.unflatten(of_all, 0, (views, -1)).mean(0))
    if on_step is not None:
        with torch.no_grad():
            on_step(StepInfo(learner.step + 1, loss.detach(), *seen[0]))
    return StepResult(loss.detach(), torch.stack(tallies).sum(0), len(losses)), new_keys


def enqueue(learner: Learner, batch: Batch, new_keys: Tensor | None) -> None:
    """What a step does after its update: the queue takes the new keys, and the step is counted."""
    if learner.memory is not None and new_keys is not None:
        learner.memory.queue.enqueue(new_keys, batch.ids, batch.labels)
    learner.step += 1


def _compared(
    learner: Learner, batch: Batch, experiment: Experiment
) -> tuple[tuple[Tensor, Tensor, Tensor], Two, Two, Tensor | None]:
    """Unit vectors of this rank's share of a batch and of all that its anchors meet, and the image each came from.

    Returns:
        Anchors [A, d], with gradient, positives [A, d] and keys [K, d]; ids of anchors and keys; their labels; and
        [B, d], what the queue takes.

    MoCo: anchors against the queue; symmetric stacks the pairs (view1, key of view2) and (view2, key of view1).
    SimCLR: both views stacked are the anchors and, of all ranks, the 2B keys, with gradient on both sides.
    """
    ranks, memory, views = learner.ranks, learner.memory, experiment.training.anchors_per_image
    share = ranks.share(len(batch.ids))
    pictures = batch.images, experiment.views, learner.parts.views
    view1, view2 = (drawn_view(*pictures, generator=learner.draws, share=share) for _ in range(2))
    ids, labels = ranks.own(batch.ids).repeat(views), ranks.own(batch.labels).repeat(views)
    with precision(experiment, view1.device):
        if memory is not None:
            memory.copy.update(learner.encoder, experiment.training.momentum)
        query, other = torch.cat([view1, view2][:views]), torch.cat([view2, view1][:views])
        z = F.normalize(learner.forward(query, views=views).float(), dim=1)
        if memory is None:
            z1, z2 = z.chunk(2)
            vectors = z, torch.cat([z2, z1]), ranks.gathered_with_gradient(z, views)
            return vectors, (ids, batch.ids.repeat(2)), (labels, batch.labels.repeat(2)), None
        with torch.no_grad():
            k = F.normalize(memory.copy.keys(other, views, generator=learner.draws, ranks=ranks).float(), dim=1)
        queue, new_keys = memory.queue, k[: len(batch.ids)]
        return (z, ranks.own(k, views), queue.keys), (ids, queue.ids), (labels, queue.labels), new_keys


def precision(experiment: Experiment, device: torch.device) -> torch.autocast:
    """bfloat16 for the encoder's passes where the settings and the device ask for it."""
    wanted = experiment.training.precision
    enabled = wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@dataclass
class Recording:
    """A recorded update, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    rate: Tensor
    result: StepResult
    new_keys: Tensor | None

    def replay(self, batch: Batch, rate: float) -> None:
        """The update of another batch."""
        for here, given in zip(vars(self.batch).values(), vars(batch).values(), strict=True):
            here.copy_(given)
        self.rate.fill_(rate)
        self.graph.replay()


@dataclass
class Replay:
    """`train_step`, recorded as soon as two steps in a row had the same rules and a full queue, and anew after others.

    A step whose schedules are moving, or whose queue is filling, is done as it is without a recording.
    """

    learner: Learner
    experiment: Experiment
    labelled: bool
    recording: Recording | None = field(default=None, init=False)
    before: tuple[Rules, int] | None = field(default=None, init=False)
    """Rules and keys of the step before."""
    replayed: int = field(default=0, init=False)
    """Steps that were."""

    def step(self, batch: Batch, rate: float, progress: float) -> StepResult:
        """The same as `train_step` with the learning rate; what it returns is written over by the next."""
        memory = self.learner.memory
        now = self.experiment.rules_at(progress), 0 if memory is None else len(memory.queue)
        if now != self.before:
            self.before = now
            self._forget()
            set_rate(self.learner, rate)
            return train_step(self.learner, batch, self.experiment, progress=progress, labelled=self.labelled)
        if self.recording is None:
            self.recording = self._record(batch, now[0])
        self.recording.replay(batch, rate)
        self.replayed += 1
        enqueue(self.learner, batch, self.recording.new_keys)
        return self.recording.result

    def _forget(self) -> None:
        """Drop the recording once the GPU is through with it, and give its memory back."""
        if self.recording is not None:
            torch.cuda.synchronize(self.learner.device)
            self.recording = None
            self.learner.optimizer.zero_grad(set_to_none=True)  # they lie in its memory
            torch.cuda.empty_cache()

    def _record(self, batch: Batch, rules: Rules) -> Recording:
        """Record an update; nothing is computed yet."""
        learner, graph = self.learner, torch.cuda.CUDAGraph()
        for generator in (learner.draws, learner.chance):
            graph.register_generator_state(generator)
        place = Batch(batch.images.clone(), batch.ids.clone(), batch.labels.clone())
        rate = torch.zeros((), device=learner.device)
        set_rate(learner, rate)
        learner.optimizer.zero_grad(set_to_none=True)  # the gradients it makes lie in its own memory
        try:  # thread_local, because what other threads do meanwhile is not the step's
            with torch.cuda.device(learner.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result, new_keys = update(learner, place, self.experiment, rules, labelled=self.labelled)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = "its backbone or rules wait for the GPU or decide by what they compute."
            told = f"The step cannot be recorded as a CUDA graph: {why} ({error.__context__ or error})"
            raise RuntimeError(f"{told} Train without cuda_graph, in a new process of Python.") from error
        return Recording(graph, place, rate, result, new_keys)
