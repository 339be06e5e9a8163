"""The gap between two losses and CKA, by brute force and closed forms; and that the record goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from cltools.errors import CltoolsError
from cltools.provenance import read_record
from experiments import gap
from experiments.gap import linear_cka, loss_gap, run_gap
from tests.experiments.test_images import cifar100_like


@given(seed=st.integers(0, 10**4), temperature=st.sampled_from([0.1, 0.5, 1.0]))
def test_the_gap_is_that_of_two_losses(seed: int, temperature: float) -> None:
    made = torch.Generator().manual_seed(seed)
    z, positive = (torch.nn.functional.normalize(torch.randn(12, 4, generator=made), dim=1) for _ in range(2))
    labels = torch.randint(3, (12,), generator=made)
    gaps = []
    for i in range(12):
        own = np.exp(float(z[i] @ positive[i]) / temperature)
        others = [(j, np.exp(float(z[i] @ positive[j]) / temperature)) for j in range(12) if j != i]
        plain = -np.log(own / (own + sum(each for _, each in others)))
        oracle = -np.log(own / (own + sum(each for j, each in others if labels[j] != labels[i])))
        gaps.append(plain - oracle)
    assert loss_gap(z, positive, labels, temperature) == pytest.approx(np.mean(gaps), rel=1e-4, abs=1e-6)


def test_the_gap_at_chance_is_the_logarithm_of_the_share() -> None:
    z = torch.nn.functional.normalize(torch.ones(1000, 3), dim=1)  # every cosine is 1
    labels = torch.arange(1000) % 5
    assert loss_gap(z, z, labels, 0.2) == pytest.approx(np.log(1000 / 801), rel=1e-4)


def test_cka_is_1_up_to_rotation_and_scale_and_small_for_independent_features() -> None:
    made = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=made)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=made)).Q
    assert linear_cka(x, 3 * x @ rotation + 2) == pytest.approx(1.0)
    assert linear_cka(x, torch.randn(500, 6, generator=made)) < 0.05
    one, two = (np.asarray(each - each.mean(0)) @ np.asarray(each - each.mean(0)).T for each in (x, x[:, :2]))
    centred = np.eye(500) - 1 / 500
    hsic = [np.trace(a @ centred @ b @ centred) for a, b in ((one, two), (one, one), (two, two))]
    assert linear_cka(x, x[:, :2]) == pytest.approx(hsic[0] / np.sqrt(hsic[1] * hsic[2]))


@pytest.mark.slow
def test_the_record_of_the_gap_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = cifar100_like(tmp_path / "images", train=3, test=1)
    small = {name: arm for name, arm in gap.arms(2).items() if name in ("moco", "oracle-20", "moco-t0.5")}
    batch = {"batch": 32, "queue_size": 64}
    small = {n: (replace(a, training=replace(a.training, **batch)), how) for n, (a, how) in small.items()}  # type: ignore[arg-type]
    monkeypatch.setattr(gap, "arms", lambda epochs: small)
    path = run_gap(tmp_path, root, seeds=1, count=200)
    record = read_record(path)
    assert [row["arm"] for row in record["rows"]] == [*small]
    of_moco, oracle, warm = record["rows"]
    assert of_moco["cka"] == [1.0, 1.0] and all(0.9 < each <= 1 for each in oracle["cka"]) and warm["cka"][-1] < 1
    assert {*of_moco["gap"]["5 groups"]} == {"0.2", "1"} and {*warm["gap"]["5 groups"]} == {"0.5", "1"}
    few, many = (of_moco["gap"][name]["0.2"][0] for name in ("5 groups", "100 classes"))
    assert few > many > 0
    assert len(read_record(run_gap(tmp_path, root, seeds=2, count=200))["rows"]) == 6
    with pytest.raises(CltoolsError, match="other settings: images"):
        run_gap(tmp_path, root, seeds=2, count=210)
