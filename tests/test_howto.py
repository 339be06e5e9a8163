"""The code of the how-to pages and explanations, run as written: each page in a process and a folder of its own.

`python test_howto.py PAGE` runs the blocks of one page from top to bottom, in one namespace. A block of Python whose
first line is a comment with a file's name is saved under that name. A block of text must be what the block above it
printed, up to rounding that differs between machines, where a line of "…" stands for any lines. A block of the kind
"console" is not run, because it needs several machines or hours.
"""

import contextlib
import io
import json
import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from forked import forked

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path for folder in ("howto", "explain") for path in sorted((ROOT / "docs" / folder).glob("*.md"))}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")

SLOW = {"lightly", "lightning", "own-embeddings", "own-images", "own-rule", "pytorch-loop", "pytorch-metric-learning"}
SLOW |= {"sentence-transformers", "several-gpus", "sweep", "timm"}
"""Pages that take more than five seconds of one core."""
LOOSE = {"pytorch-loop": 3.0, "lightning": 0.2, "timm": 5.0, "sweep": 2.0}
"""Pages that show accuracies of short trainings, by how many points these may differ on another machine."""
FOREIGN = {"lightning": "pytorch_lightning|lightning_fabric|torch"}
"""Libraries that warn of each other, and of themselves, however they are called."""
Names = dict[str, Any]


# What pages need that a reader has


def photographs() -> None:
    """A folder of images such as a reader's, of ten classes; enlarged digits, from which an encoder learns quickly."""
    from PIL import Image

    from cltools import load_images

    for split, count in (("train", 256), ("test", 64)):
        data = load_images("digits", split)
        for n in range(count):
            path = Path("photographs", split, data.classes[data.labels[n]], f"{n}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[n].permute(1, 2, 0).numpy()).resize((32, 32)).save(path)


def small_language_model() -> None:
    """A model under the name that the page loads, which would be downloaded: the tests have no network.

    It is a model of the library, made from one of its modules, so all that the page calls is called as a reader calls
    it. Its words are those of the page, and their vectors are random.
    """
    import sentence_transformers
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    whole = sentence_transformers.SentenceTransformer

    def load(name: str) -> Any:
        assert name == "all-MiniLM-L6-v2"
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        words = PAGES["sentence-transformers"].read_text(encoding="utf-8")
        tokenizer.train_from_iterator([words], trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
        return whole(modules=[StaticEmbedding(tokenizer, embedding_dim=64)], device="cpu")

    sentence_transformers.SentenceTransformer = load


PREPARED = {"lightly": photographs, "own-images": photographs, "sentence-transformers": small_language_model}


# What each page must have done, besides showing what was printed


def falling(printed: str) -> list[float]:
    """The losses of the epochs, of which the last must be the lowest."""
    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", printed)]
    assert len(losses) > 1 and all(map(math.isfinite, losses)) and losses[-1] == min(losses) < losses[0], printed
    return losses


def check_pytorch_loop(names: Names, printed: str) -> None:
    assert len(falling(printed)) == 3
    assert names["rules"][0].strength == 1 and (names["chosen"].positive_weight[:, 1:] > 0).any(), "it has mined"
    assert names["loss"].isfinite() and names["chosen"].band.shape == (17, 512)  # of the last batch of 1,297 images


def check_lightning(names: Names, printed: str) -> None:
    model, saved = names["model"], names["saved"]
    assert model.criterion.positive_rule.strength == 1, "the schedule has ended"
    assert model.criterion.bank.queue.filled == 512
    assert saved["criterion.bank.keys"].equal(model.criterion.bank.queue.keys), "the checkpoint has the queue"
    slow, fast = model.momentum_encoder[0][0].weight, model.encoder[0][0].weight
    assert slow.grad is None and fast.grad.abs().sum() > 0 and not slow.equal(fast)


def check_lightly(names: Names, printed: str) -> None:
    assert len(falling(printed)) == 3
    assert names["head"].layers[0].weight.grad.isfinite().all()


def check_pytorch_metric_learning(names: Names, printed: str) -> None:
    falling(printed)
    anchors, positives, others, negatives = names["pairs"]
    labels = names["labels"]
    assert (labels[others] != labels[negatives]).all() and (labels[anchors] != labels[positives]).any(), "it has mined"
    assert "HardnessWeighted" in printed


def check_sentence_transformers(names: Names, printed: str) -> None:
    falling(printed)
    report = names["mined"].report
    assert report.counts["own"] == 48 and report.counts["hard"] > 0 and report.counts["potential"] > 1000
    assert all(row not in keys for row, keys in names["found"].items()), "no question has its own answer as negative"
    assert {*names["rows"][0]} == {"anchor", "positive", "negative_1", "negative_2", "negative_3", "negative_4"}


def check_timm(names: Names, printed: str) -> None:
    sizes = [sum(p.numel() for p in names[each].backbone.parameters()) for each in ("encoder", "model")]
    assert {*sizes} == {sum(p.numel() for p in names["backbone"].parameters())}
    assert [*names["features"].shape] == [2, 512] and names["features"].isfinite().all()


def check_own_rule(names: Names, printed: str) -> None:
    from cltools.training import Run

    run = Run.load("runs/mine")
    last = run.history.rows[-1]
    assert len(run.history.rows) == 3 and last["hard"] > 0 and run.experiment.outside.rules == ("my_rules",)
    assert run.experiment.negatives == names["DropOutliers"](deviations=1.5)
    assert run.experiment.positives == names["CloseToBoth"](k=3) and last["mined_purity"] > 0.2, "above chance"
    assert "`random-as-DropOutliers`" in printed and "P(same class)" in printed


def check_own_images(names: Names, printed: str) -> None:
    assert Path("page.html").stat().st_size > 100_000
    assert names["tuned"].experiment.negatives == names["negatives"] and len(names["tuned"].history.rows) == 3
    assert "linear" in printed


def check_own_embeddings(names: Names, printed: str) -> None:
    pairs, snapshot = names["pairs"], names["snapshot"]
    assert {*pairs["anchor"]} == {*range(40)} and (pairs["anchor"] != pairs["key"]).all(), "no match is a negative"
    assert snapshot.texts[300] == "query 0" and snapshot.metadata["year"][3] == "2003"
    assert Path("page.html").stat().st_size > 50_000
    assert len(Path("pairs.csv").read_text(encoding="utf-8").splitlines()) == 1 + 40 * 5


def check_sweep(names: Names, printed: str) -> None:
    rows = names["rows"]
    assert len(rows) == 24 and {*rows["seed"]} == {*range(8)} and rows["knn200"].notna().all()
    shown = [float(mean) for mean in re.findall(r"^  moco loss.*: ([-+]\d+\.\d)", printed, flags=re.MULTILINE)]
    means = names["accuracy"].sub(names["accuracy"]["moco"], axis=0).mean()
    assert shown == pytest.approx([*means.drop("moco")], abs=0.06), "the table is of these rows"


def check_several_gpus(names: Names, printed: str) -> None:
    for name in ("two", "script"):
        record = json.loads(Path("runs", name, "record.json").read_text(encoding="utf-8"))
        assert record["stretches"][-1]["hardware"]["ranks"] == 2 and record["epochs"] == 2


def check_infonce(names: Names, printed: str) -> None:
    import torch

    from cltools.gradients import tangential_force

    cosine = torch.linspace(0.0, 1.0, 1001)
    force = tangential_force((cosine / 0.2).exp()[None], cosine[None])[0]
    assert f"{cosine[force.argmax()]:.2f}" == "0.90", "the peak that the page states"
    assert names["pull"].shape == (8, 1) and names["push"].shape == (8, 100)


def check_bands(names: Names, printed: str) -> None:
    false, true = (names["figures"][n].item() for n in (0, 1))
    assert false > 2 * true > 0, "the edge drops false negatives more often than true ones"


def check_mined_positives(names: Names, printed: str) -> None:
    purity = [int(each) for each in re.findall(r"keys (\d+)%", printed)]
    assert len(purity) == 5 and purity == sorted(purity) and purity[0] > 30
    force = [float(line.split()[-1]) for line in printed.splitlines() if " to " in line]
    assert force == sorted(force) and force[0] < force[-1]


def check_seeds(names: Names, printed: str) -> None:
    assert names["max_t"]({"a": [1.0] * 5, "b": [2.0, 2.0, 2.0, 2.0, 1.0]})["a"] == pytest.approx(2**-4)
    deviations = names["statistics"].stdev(names["gains"]), names["statistics"].stdev(names["moco"])
    assert deviations[0] < deviations[1] / 4


def check_map(names: Names, printed: str) -> None:
    bounds = [float(each) for each in re.findall(r"= (\d\.\d+) nats", printed)]
    assert len(bounds) == 2 and bounds[0] < bounds[1], "choosing easy negatives seems to tell more"
    assert re.search(r"collapsed: (\S+), a guess: \1\n", printed)


# The run of a page, in a process of its own


def shows(shown: str, printed: str, loose: float = 0) -> bool:
    """Whether a page shows what its code printed: the same words, and numbers equal but for the last digit or `loose`.

    A line of "…" stands for any lines.
    """
    lines = ("(?:.*\n)*?" if line == "…" else f"{pattern(line)} *\n" for line in shown.splitlines())
    found = re.fullmatch("".join(lines), printed)
    pairs = zip(NUMBER.findall(shown), found.groups(), strict=True) if found else ()
    return found is not None and all(close(one, other, loose) for one, other in pairs)


def pattern(line: str) -> str:
    """A regular expression of a line with any numbers and any widths of columns."""
    words = (re.sub(r"(\\ )+", " +", re.escape(part)) for part in NUMBER.split(line))
    return f"({NUMBER.pattern})".join(words)


def close(shown: str, printed: str, loose: float) -> bool:
    """Whether two numbers differ by at most two units of the last decimal shown, or by `loose`; counts are equal."""
    decimals = len(shown.partition(".")[2])
    apart = abs(float(shown.replace(",", "")) - float(printed.replace(",", "")))
    return apart <= max(loose, 2.1 * 10**-decimals if decimals else 0)


def run_page(name: str) -> None:
    """Run the blocks of a page in this folder, and then its check."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", EncodingWarning)  # which our own tests ask for; other libraries' are their affair
    if name in FOREIGN:
        warnings.filterwarnings("ignore", module=rf"({FOREIGN[name]})\b")
    import torch

    torch.manual_seed(0)  # of weights that a page makes before `fit`; a new process draws its own seed
    PREPARED.get(name, lambda: None)()
    sys.path.insert(0, "")  # as where Python starts without a script
    text, printed = PAGES[name].read_text(encoding="utf-8"), [""]
    names: Names = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        language, code = block.groups()
        line = text.count("\n", 0, block.start(2))
        if language == "python" and (file := FILE.match(code)):
            Path(file[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile("\n" * line + code, PAGES[name], "exec"), names)
            printed.append(out.getvalue())
        elif language == "sh" and not code.startswith("pip "):
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], stdout=subprocess.PIPE, encoding="utf-8")
            assert done.returncode == 0, f"line {line + 1} of {name}.md ends with status {done.returncode}"
            printed.append(done.stdout)
        elif language == "text":
            assert shows(code, printed[-1], LOOSE.get(name, 0)), f"line {line + 1} of {name}.md: it is\n{printed[-1]}"
    globals()[f"check_{name.replace('-', '_')}"](names, "".join(printed))


if __name__ == "__main__":
    run_page(sys.argv[1])
    raise SystemExit


@pytest.mark.parametrize("name", [pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in PAGES])
def test_a_page_runs_as_written(name: str, tmp_path: Path) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": programs, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONWARNDEFAULTENCODING": ""}
    done = forked(run_page, name, folder=tmp_path, environment=os.environ | environment)
    assert done.returncode == 0, done.stderr[-6000:]


def test_a_page_that_shows_something_else_is_seen() -> None:
    printed = "epoch 1: loss 4.31\nepoch 2: loss 3.96\n12 keys\n"
    assert shows(printed, printed) and shows("epoch 1: loss 4.32\n…\n12 keys\n", printed)
    assert shows("…\n12 keys\n", printed) and shows("epoch 1: loss 4.31\n…\n", printed)
    assert shows("…\nepoch 2: loss 3.9\n12 keys\n", printed), "printed with more decimals than shown"
    for wrong in ("epoch 1: loss 4.41\n…\n", "epoch 1: gain 4.31\n…\n", "…\n13 keys\n", "…\n12 key\n", "12 keys\n", ""):
        assert not shows(wrong, printed), wrong
    assert shows("…\n13 keys\n", printed, loose=1)


def test_the_blocks_of_every_page_are_run_compared_or_said_not_to_be() -> None:
    for name, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        languages = [language for language, _ in BLOCK.findall(text)]
        assert {*languages} <= {"python", "sh", "text", "console"} and "python" in languages, name
        assert text.count("\n```") == 2 * len(languages), (
            f"{name}.md has a fence that is not closed, or not at its line's start"
        )
