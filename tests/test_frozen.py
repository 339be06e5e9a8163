"""What was selected by the first edition, and trained when the arithmetic was frozen, comes out still."""

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cltools import NegativeRule, PositiveRule, load_snapshot, select
from cltools.config import from_plain

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "frozen" / "selections.npz"
ANCHORS = 48
COMPARED = 138
"""Of 140 recorded pairs of rules, those that draw no candidates."""


def test_recorded_rules_select_the_same_keys() -> None:
    spec = importlib.util.spec_from_file_location("convert", ROOT / "data" / "convert.py")
    assert spec is not None and spec.loader is not None
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    with np.load(KEPT) as archive:
        bands, about = archive["bands"], json.loads(archive["about"].tobytes())
    snapshot = load_snapshot(ROOT / "data" / "snapshots" / "digits-moco.npz")
    places = torch.arange(0, len(snapshot), len(snapshot) // ANCHORS)[:ANCHORS]
    s = snapshot.similarities(places)
    compared = 0
    for text, kept in about.items():
        rules, progress = text.rsplit("@", 1)
        positives, negatives, temperature = json.loads(rules)
        positive_rule = from_plain(PositiveRule, convert.renamed_positives(positives)).at(float(progress))
        if getattr(positive_rule, "pick", None) is not None:
            continue  # what it draws belongs to the order of the candidates, which is another since
        compared += 1
        negative_rule = from_plain(NegativeRule, convert.renamed_negatives(negatives)).at(float(progress))
        draws = torch.Generator().manual_seed(0)
        chosen = select(s, positive_rule, negative_rule, temperature=temperature, generator=draws)
        different = chosen.band[::3].numpy() != bands[kept["place"]]
        # Another processor rounds cosines otherwise, which may move a key that stands at an edge.
        assert different.mean() < 1e-4, f"{kept['arm']}: {int(different.sum())} keys"
    assert compared == COMPARED


@pytest.mark.nightly
@pytest.mark.parametrize("processes", [1, 2])
def test_seven_trainings_end_bit_for_bit_as_they_did(processes: int, tmp_path: Path) -> None:
    """On a processor that rounds otherwise it fails, and the folder's README says how to compare there."""
    if not torch.__version__.startswith("2.15") or platform.machine() != "x86_64":
        pytest.skip("the trainings were kept on torch 2.15 and x86-64")
    folder = ROOT / "tests" / "frozen"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes > 1 else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launcher, str(folder / "train.py"), str(tmp_path)], check=True, env=environment)
    name = "one_process.json" if processes == 1 else "two_processes.json"
    kept, now = (json.loads((place / name).read_text(encoding="utf-8")) for place in (folder, tmp_path))
    assert list(kept) == list(now)
    for run in kept:
        assert now[run] == kept[run], run
