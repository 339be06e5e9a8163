"""A step of training recorded once as a CUDA graph, and replayed.

A small encoder's step is a thousand small pieces of work, and a GPU has done each before Python has asked for the
next: a ResNet-18 at batch 256 waits more than it works. A graph asks for all of them at once.

What changes from step to step is written into memory that the graph reads: the batch and the learning rate. What it
draws comes from the learner's generators, which go on as they do without it. The queue is filled outside of it.
Whatever else Python decides or counts within a step is decided once, when the step is recorded.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cltools.config import Experiment
from cltools.training.learner import Learner, set_rate
from cltools.training.step import Batch, Rules, StepResult, enqueue, train_step, update


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
            raise RuntimeError(
                "The step cannot be recorded as a CUDA graph: its backbone or rules wait for the GPU or decide by what "
                f"they compute. Train without cuda_graph, in a new process of Python. ({error.__context__ or error})"
            ) from error
        return Recording(graph, place, rate, result, new_keys)
