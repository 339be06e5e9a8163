"""One training step: views, encoder, similarities, selection, loss, update, enqueue. It never waits for the device.

Every rank receives the whole batch and draws random numbers for all of it, but makes views and anchors only of its
share. Keys are exchanged, so that anchors see the same keys, and the queue takes them in the same order, for any number
of ranks.

A small encoder's step consists of about a thousand small kernels, and the GPU finishes each before Python launches the
next. A step can therefore be recorded once as a CUDA graph, which launches all kernels at once, and replayed (`Replay`;
timed by `python -m benchmarks steps --full --cuda-graph`). The values that change between steps, the batch and the
learning rate, are written into memory that the graph reads. Random numbers come from the state's generators, which
advance as they do without the graph. The queue is filled outside the graph. Anything else that Python decides or counts
within a step is fixed when the step is recorded.

Legend: B images of the batch, b images of this rank's share (B if there is one rank), A anchors (2b with both views),
K keys, d embedding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from cltools.config import Experiment
from cltools.contrast import contrastive_loss, mean_over_anchors
from cltools.datasets import ImageSet
from cltools.mining import NegativeRule, PositiveRule, Selection, Similarities
from cltools.training.inputs import drawn_view
from cltools.training.record import tally_of
from cltools.training.state import TrainState, set_rate

Rules = tuple[PositiveRule, NegativeRule]
Two = tuple[Tensor, Tensor]
"""The same quantity for anchors [A] and keys [K]."""
MIXED_BLOCKS = 16
"""Number of blocks whose images are shuffled together (`training.shuffle_block`)."""


@dataclass(frozen=True)
class Batch:
    """Images uint8 [B, 3, H, W] with their ids and labels int64 [B]."""

    images: Tensor
    ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class StepInfo:
    """The argument of `fit(on_step=…)`, which is called after each update, before the queue takes the new keys.

    All tensors are on the device: reading a value (`float(info.loss)`) waits for the device, summing on the device does
    not. The cosines are still attached to the step's autograd graph; store `.detach()` of them.

    Attributes:
        step: number of the step in the run, from 1.
        loss: float32 [], the mean over this process's anchors.
        similarities: the cosines that the rules saw.
        selection: the rules' choice.
    """

    step: int
    loss: Tensor
    similarities: Similarities
    selection: Selection


OnStep = Callable[[StepInfo], object] | None


@dataclass(frozen=True)
class StepResult:
    """A step's contribution to the history, on the device: loss, tally and number of this rank's anchors."""

    loss: Tensor
    tally: Tensor
    anchors: int


def epoch_order(count: int, block: int | None, generator: torch.Generator) -> Tensor:
    """Return the order [count] in which an epoch takes its images: a random one, or one of shuffled blocks.

    Blocks of consecutive images are shuffled, then the images of every `MIXED_BLOCKS` blocks, so that only these of a
    memory map have to fit into memory. Images of a block often share a batch.
    """
    if block is None:
        return torch.randperm(count, generator=generator, device="cpu")
    blocks = torch.split(torch.arange(count, device="cpu"), block)
    order = torch.randperm(len(blocks), generator=generator, device="cpu")
    parts = [torch.cat([blocks[each] for each in group]) for group in torch.split(order, MIXED_BLOCKS)]
    return torch.cat([part[torch.randperm(len(part), generator=generator, device="cpu")] for part in parts])


def batches(images: ImageSet, size: int, order: Tensor, device: torch.device) -> Iterator[Batch]:
    """Yield batches of `size` images in this order on a device; a smaller last batch is dropped."""
    whole = order[: len(order) // size * size].to(images.images.device)
    for index in torch.split(whole, size):
        yield Batch(*(each[index].to(device) for each in (images.images, images.ids, images.labels)))


def train_step(
    state: TrainState, batch: Batch, experiment: Experiment, *, progress: float, labelled: bool, on_step: OnStep = None
) -> StepResult:
    """Update the state by one batch.

    The queue takes the second view's keys once, after the backward pass, so that no anchor sees keys of its own batch.

    Args:
        state: changed in place.
        batch: the whole batch, on the state's device; its size is a multiple of the number of ranks.
        experiment: settings; schedules are resolved here.
        progress: share of training done before this step.
        labelled: whether labels are known; only the oracle and the diagnosis read them.
        on_step: called with the step's similarities, selection and loss. Not available when anchors are processed in
            chunks, because no chunk holds the whole step.
    """
    rules = experiment.rules_at(progress)
    result, new_keys = update(state, batch, experiment, rules, labelled=labelled, on_step=on_step)
    enqueue(state, batch, new_keys)
    return result


def update(
    state: TrainState, batch: Batch, experiment: Experiment, rules: Rules, *, labelled: bool, on_step: OnStep = None
) -> tuple[StepResult, Tensor | None]:
    """Do everything of a step except for filling the queue; also return the new keys [B, d] for it (MoCo).

    The arguments are those of `train_step`.
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

    vectors, ids, labels, new_keys = _compared(state, batch, experiment)
    chunk = experiment.training.chunk if on_step is None else len(vectors[0])
    losses = contrastive_loss(
        *vectors, *rules, experiment.loss, ids=ids, labels=labels if labelled else None, generator=state.rule_rng,
        state=state.rule_state, chunk=chunk, observe=count, check=False,
    )  # fmt: skip
    loss = mean_over_anchors(losses, weights, state.ranks)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    if state.rule_state is not None and measured:
        views = experiment.training.anchors_per_image
        of_all = state.ranks.gathered(torch.cat(measured), views)
        rules[1].learn(state.rule_state, batch.ids, torch.unflatten(of_all, 0, (views, -1)).mean(0))
    if on_step is not None:
        with torch.no_grad():
            on_step(StepInfo(state.step + 1, loss.detach(), *seen[0]))
    return StepResult(loss.detach(), torch.stack(tallies).sum(0), len(losses)), new_keys


def enqueue(state: TrainState, batch: Batch, new_keys: Tensor | None) -> None:
    """Finish a step after its update: add the new keys to the queue and count the step."""
    if state.memory is not None and new_keys is not None:
        state.memory.queue.enqueue(new_keys, batch.ids, batch.labels)
    state.step += 1


def _compared(
    state: TrainState, batch: Batch, experiment: Experiment
) -> tuple[tuple[Tensor, Tensor, Tensor], Two, Two, Tensor | None]:
    """Compute unit vectors of the anchors of this rank's share of a batch, of their positives and of the keys.

    Returns:
        Anchors [A, d], with gradient, positives [A, d] and keys [K, d]; ids of anchors and keys; their labels; and the
        keys [B, d] to add to the queue.

    MoCo: the keys are the queue's; symmetric MoCo stacks the pairs (view1, key of view2) and (view2, key of view1).
    SimCLR: the anchors are both views, stacked; the keys are those of all ranks, 2B, with gradient on both sides.
    """
    ranks, memory, views = state.ranks, state.memory, experiment.training.anchors_per_image
    share = ranks.share(len(batch.ids))
    source = batch.images, experiment.views, state.parts.views
    view1, view2 = (drawn_view(*source, generator=state.view_rng, share=share) for _ in range(2))
    ids, labels = ranks.own(batch.ids).repeat(views), ranks.own(batch.labels).repeat(views)
    with precision(experiment, view1.device):
        if memory is not None:
            memory.copy.update(state.encoder, experiment.training.momentum)
        query, other = torch.cat([view1, view2][:views]), torch.cat([view2, view1][:views])
        z = F.normalize(state.forward(query, views=views).float(), dim=1)
        if memory is None:
            z1, z2 = z.chunk(2)
            vectors = z, torch.cat([z2, z1]), ranks.gathered_with_gradient(z, views)
            return vectors, (ids, batch.ids.repeat(2)), (labels, batch.labels.repeat(2)), None
        with torch.no_grad():
            k = F.normalize(memory.copy.keys(other, views, generator=state.view_rng, ranks=ranks).float(), dim=1)
        queue, new_keys = memory.queue, k[: len(batch.ids)]
        return (z, ranks.own(k, views), queue.keys), (ids, queue.ids), (labels, queue.labels), new_keys


def precision(experiment: Experiment, device: torch.device) -> torch.autocast:
    """Return the autocast context of the encoder's passes: bfloat16 if the settings and the device call for it."""
    wanted = experiment.training.precision
    enabled = wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@dataclass
class Recording:
    """A recorded update and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    rate: Tensor
    result: StepResult
    new_keys: Tensor | None

    def replay(self, batch: Batch, rate: float) -> None:
        """Run the recorded update on another batch."""
        for recorded, new in zip(vars(self.batch).values(), vars(batch).values(), strict=True):
            recorded.copy_(new)
        self.rate.fill_(rate)
        self.graph.replay()


@dataclass
class Replay:
    """`train_step`, recorded as soon as two steps in a row have the same rules and number of keys.

    It is recorded again after these have changed. While schedules move or the queue fills, steps run unrecorded.
    """

    state: TrainState
    experiment: Experiment
    labelled: bool
    recording: Recording | None = field(default=None, init=False)
    previous: tuple[Rules, int] | None = field(default=None, init=False)
    """The previous step's rules and number of keys."""
    replayed: int = field(default=0, init=False)
    """Number of replayed steps."""

    def step(self, batch: Batch, rate: float, progress: float) -> StepResult:
        """Do the same as `set_rate` and `train_step`; the next step overwrites the result's tensors."""
        now = self.experiment.rules_at(progress), len(self.state.memory.queue) if self.state.memory else 0
        if now != self.previous:
            self.previous = now
            self._discard()
            set_rate(self.state, rate)
            return train_step(self.state, batch, self.experiment, progress=progress, labelled=self.labelled)
        if self.recording is None:
            self.recording = self._record(batch, now[0])
        self.recording.replay(batch, rate)
        self.replayed += 1
        enqueue(self.state, batch, self.recording.new_keys)
        return self.recording.result

    def _discard(self) -> None:
        """Delete the recording once the GPU has finished with it, and free its memory."""
        if self.recording is not None:
            torch.cuda.synchronize(self.state.device)
            self.recording = None
            self.state.optimizer.zero_grad(set_to_none=True)  # they are in its memory
            torch.cuda.empty_cache()

    def _record(self, batch: Batch, rules: Rules) -> Recording:
        """Record an update without computing anything."""
        state, graph = self.state, torch.cuda.CUDAGraph()
        for generator in (state.view_rng, state.rule_rng):
            graph.register_generator_state(generator)
        static = Batch(batch.images.clone(), batch.ids.clone(), batch.labels.clone())
        rate = torch.zeros((), device=state.device)
        set_rate(state, rate)
        state.optimizer.zero_grad(set_to_none=True)  # the graph's gradients get its own memory
        try:  # thread_local: calls from other threads do not invalidate the recording
            with torch.cuda.device(state.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result, new_keys = update(state, static, self.experiment, rules, labelled=self.labelled)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            why = "its backbone or rules wait for the GPU or branch on computed values."
            message = f"The step cannot be recorded as a CUDA graph: {why} ({error.__context__ or error})"
            raise RuntimeError(f"{message} Train without cuda_graph, in a new Python process.") from error
        return Recording(graph, static, rate, result, new_keys)
