"""Each of 22 known mistakes of contrastive-learning code is a test: here, or where the module it concerns is tested.

The mistakes were found by reading public implementations and their issues; a number after a library's name is that of
its issue or pull request. `MISTAKES` says for each what goes wrong and which tests would notice it in this package.
"""

import ast
import math
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.contrast import contrastive_loss
from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.evaluation import knn_accuracy, linear_probe
from cltools.evaluation.features import fit_probe
from cltools.gradients import info_nce_gradients
from cltools.losses import LossSettings, info_nce, negative_mass
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    CosineBand,
    Estimate,
    NearestKeys,
    NegativeRule,
    RandomNegatives,
    RankBand,
    RingNegatives,
    Similarities,
    select,
    similarities,
    terms,
)
from cltools.training import Run, fit

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

PLAIN = AugmentedView()
ROOT = Path(__file__).parents[1]
HERE = "tests/test_known_mistakes.py"

MISTAKES: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "A key that the queue still holds from the epoch before is the worst negative of its own image, or its nearest "
        "neighbour. For a queue as large as the training set that is every second anchor.",
        (
            "tests/test_training.py::test_an_image_never_meets_itself_in_a_later_epoch",
            "tests/test_training.py::test_a_moco_step_is_the_formula_and_sgd",
            "tests/test_interop_loss.py::test_an_images_older_keys_are_never_its_negatives_nor_mined",
            "tests/test_evaluation_diagnosis.py::test_self_hits_happen_as_often_as_expected",
        ),
    ),
    2: (
        "A symmetric loss whose first term enqueues makes the second view's key a negative of its own image "
        "(lightly 564).",
        (
            "tests/test_training.py::test_the_queue_takes_the_second_views_keys_once_after_the_backward_pass",
            "tests/test_interop_loss.py::test_both_terms_of_a_symmetric_loss_see_the_bank_without_their_batch",
            "tests/test_interop_loss.py::test_keys_are_taken_once_however_often_the_graph_is_used",
        ),
    ),
    3: (
        "A bank drops what does not fit at its end, refuses an odd last batch (moco 100), is not saved, or has random "
        "rows, once not even normalised (lightly 1009), that act as negatives until it is full.",
        (
            "tests/test_queue.py::test_holds_the_newest_keys_with_their_ids_and_labels",
            "tests/test_queue.py::test_empty_slots_do_not_count",
            "tests/test_queue.py::test_continues_from_its_state_as_if_never_stopped",
            "tests/test_interop_loss.py::test_holds_the_newest_keys_of_batches_of_any_size",
            "tests/test_interop_loss.py::test_the_first_call_has_an_empty_bank_and_a_finite_gradient",
            "tests/test_interop_loss.py::test_the_bank_is_saved_and_loaded",
            "tests/test_training_checkpoint.py::test_a_resumed_run_equals_the_uninterrupted_one",
        ),
    ),
    4: (
        "An anchor is a negative of itself, or nobody has said whether the denominator holds the positive.",
        (
            "tests/test_training.py::test_a_simclr_step_is_the_formula_and_sgd",
            "tests/test_interop_loss.py::test_without_a_bank_it_is_simclr_by_hand",
            "tests/test_interop_loss.py::test_rows_of_one_image_in_a_batch_are_no_negatives_of_each_other",
            "tests/test_losses.py::test_one_positive_is_cross_entropy",
            "tests/test_losses.py::test_one_positive_decoupled_leaves_the_positive_out_of_the_sum",
        ),
    ),
    5: (
        "Three losses of several positives, of different gradient, go by one name.",
        (
            "tests/test_losses.py::test_agrees_with_the_loop",
            "tests/test_gradients.py::test_the_closed_form_is_autograds",
            "tests/test_parity.py::test_metric_learning_ntxent",
            "tests/test_parity.py::test_metric_learning_supcon",
        ),
    ),
    6: (
        "Gradient flows through importance weights, a clamp silences anchors unseen, and the number of negatives is "
        "the batch size of the settings, wrong for a short last batch. The published pseudo-code was wrong (HCL 1).",
        (
            "tests/test_losses.py::test_detached_tilt_is_a_constant_weight",
            "tests/test_losses.py::test_clamped_anchors_are_named_and_use_the_floor",
            "tests/test_evaluation_diagnosis.py::test_clamped_masses_are_reported",
            "tests/test_mining_peers.py::test_hcl_by_its_formula",
            "tests/test_mining_peers.py::test_at_its_neutral_setting_each_rule_is_plain_info_nce",
            f"{HERE}::test_06_a_clamped_anchor_feels_no_negative_and_a_free_one_does",
            f"{HERE}::test_06_negatives_are_counted_and_not_assumed",
        ),
    ),
    7: (
        "Under a probe the encoder stays in training mode, so that its batch norms drift; or the probe has ten outputs "
        "whatever the classes; or small images go through the stem made for large ones.",
        (
            "tests/test_evaluation.py::"
            "test_running_statistics_of_batch_norm_in_training_are_bit_identical_after_a_report",
            "tests/test_evaluation.py::test_embed_leaves_every_buffer_flag_and_gradient_as_it_was",
            "tests/test_encoders.py::test_resnet18_for_small_images_trains_on_a_cpu",
            f"{HERE}::test_07_a_probe_has_as_many_outputs_as_there_are_classes",
        ),
    ),
    8: (
        "The epoch that is best on the test images is the one reported.",
        (
            "tests/test_training.py::test_held_out_images_are_never_trained_on_and_are_what_knn_is_measured_on",
            f"{HERE}::test_08_the_last_epoch_is_kept_and_reported_however_good_one_before_was",
        ),
    ),
    9: (
        "kNN is named without its k, weights, distance, features and precision: points of accuracy lie between them, "
        "and votes of e^{cosine/0.07} overflow in float16.",
        (
            "tests/test_evaluation.py::test_knn_agrees_with_a_loop",
            "tests/test_evaluation.py::test_exactly_k_neighbours_vote",
            "tests/test_evaluation.py::test_knn_ignores_the_length_of_features_and_finds_an_image_in_its_own_bank",
            "tests/test_evaluation.py::test_knn_is_the_same_in_chunks_and_under_autocast",
            "tests/test_evaluation.py::test_an_unknown_protocol_names_the_known",
            "tests/test_evaluation.py::test_embed_gives_backbone_features_in_evaluation_mode_whatever_the_batch",
            "tests/test_parity.py::test_lightly_knn",
            f"{HERE}::test_09_votes_of_half_precision_features_do_not_overflow",
        ),
    ),
    10: (
        "Cosines, exponentials or fill values in half precision: thresholds blur, sums overflow, a constant does not "
        "fit (pytorch-metric-learning 233), and an anchor without positives divides by 0.",
        (
            "tests/test_numerics.py::test_losses_gradients_and_selections_are_finite",
            "tests/test_numerics.py::test_values_are_those_of_a_loop_in_double_precision",
            "tests/test_numerics.py::test_autocast_changes_nothing",
            "tests/test_losses.py::test_extreme_inputs_give_finite_losses_and_gradients",
            "tests/test_interop_loss.py::test_everything_is_float32_under_autocast",
            f"{HERE}::test_10_an_edge_parts_cosines_that_bfloat16_cannot",
        ),
    ),
    11: (
        "The loss is multiplied by temperature/0.07, and with it the learning rate (SupContrast 1, 73, 106).",
        (f"{HERE}::test_11_equal_features_give_the_log_of_the_number_of_terms_at_any_temperature",),
    ),
    12: (
        "Losses over different numbers of negatives are compared, though each holds the log of that number.",
        (
            f"{HERE}::test_12_fewer_negatives_lower_the_loss_and_rescaling_undoes_it",
            "tests/test_mining_rules.py::test_rescale_keeps_the_total_weight",
        ),
    ),
    13: (
        "Queries and keys share batch statistics, which give the pair away; one forward pass of two views has other "
        "statistics than two.",
        (
            "tests/test_encoders.py::test_one_forward_of_groups_is_separate_forwards",
            "tests/test_encoders.py::test_an_own_backbone_never_mixes_views",
            "tests/test_encoders.py::test_keys_are_shuffled_within_their_view",
            "tests/test_encoders.py::test_keys_come_back_in_order",
            "tests/test_training.py::test_keys_are_made_in_an_order_that_the_step_draws",
        ),
    ),
    14: (
        "Gradient reaches the momentum encoder, its buffers stay behind, or it moves after its keys were made.",
        (
            "tests/test_encoders.py::test_parameters_follow_the_closed_form_and_buffers_are_copied",
            "tests/test_encoders.py::test_the_copy_is_apart_and_without_gradient_or_predictor",
            "tests/test_mining_similarities.py::test_gradient_flows_through_the_anchor_only_where_it_should",
            "tests/test_training.py::test_a_moco_step_is_the_formula_and_sgd",
        ),
    ),
    15: (
        "Labels kept for logging reach the selection, or a threshold is tuned by them.",
        (
            "tests/test_training.py::test_labels_steer_nothing",
            "tests/test_training.py::test_labels_steer_the_oracle",
            "tests/test_contrast.py::test_labels_reach_the_oracle_alone",
            "tests/test_evaluation_diagnosis.py::test_labels_change_counts_of_classes_and_nothing_else",
            "tests/test_explorer_session.py::test_truth_tells_classes_and_the_base_rate",
        ),
    ),
    16: (
        "The precision of a detector of false negatives is given without the base rate, a tenth for ten classes; or "
        "a share of 0.1 is assumed for any number of classes.",
        (
            "tests/test_evaluation_diagnosis.py::"
            "test_the_table_has_the_base_rate_on_top_and_a_line_for_all_that_holds_keys",
            "tests/test_evaluation_diagnosis.py::test_a_share_is_that_of_all_pairs_inside_its_interval",
            "tests/test_evaluation_diagnosis.py::test_chance_drops_the_anchors_class_as_often_as_any_other",
            "tests/test_presets.py::test_a_rule_is_fitted_to_the_images",
        ),
    ),
    17: (
        "A cosine threshold of one encoder, temperature or epoch is used at another, where cosines spread otherwise.",
        (f"{HERE}::test_17_rank_shares_stay_where_cosines_spread_otherwise",),
    ),
    18: (
        "Some keys are the neighbours of nearly all anchors, and nobody looks.",
        (
            "tests/test_evaluation_diagnosis.py::test_hubness_is_the_moment_of_a_loop",
            "tests/test_evaluation_diagnosis.py::test_vectors_of_many_dimensions_have_hubs_and_of_few_have_not",
            "tests/test_evaluation_diagnosis.py::test_one_hub_that_all_choose_has_the_largest_skew",
            "tests/test_evaluation_diagnosis.py::"
            "test_the_table_has_the_base_rate_on_top_and_a_line_for_all_that_holds_keys",
        ),
    ),
    19: (
        "The nearest neighbour of a sample is the sample: mined as a positive, but left out of the purity reported.",
        (
            "tests/test_mining.py::test_positives_agree_with_the_loop",
            "tests/test_evaluation_diagnosis.py::test_the_closest_are_those_of_a_loop",
            "tests/test_evaluation_diagnosis.py::test_the_purity_of_all_k_mined_is_that_by_k",
        ),
    ),
    20: (
        "Several processes gather keys without their gradient, or take the diagonal of one process for that of all.",
        (f"{HERE}::test_20_the_mean_over_parts_of_a_batch_is_the_batch_if_all_keys_carry_gradient",),
    ),
    21: (
        "One draw of an augmentation for a whole batch; or the shares, strengths and pixel statistics of another set.",
        (
            "tests/test_views.py::test_equal_images_of_a_batch_have_different_views",
            "tests/test_views.py::test_jitter_is_torchvisions_with_a_factor_for_each_image",
            "tests/test_views.py::test_hue_is_torchvisions_with_a_turn_for_each_image",
            "tests/test_views.py::test_blur_is_torchvisions_with_a_deviation_for_each_image",
            "tests/test_views.py::test_crops_are_drawn_as_torchvision_draws_them",
            "tests/test_views.py::test_an_operation_happens_as_often_as_it_should",
            "tests/test_presets.py::test_the_recipe_is_the_one_published",
            "tests/test_encoders.py::test_pixels_are_normalised_with_the_training_images",
        ),
    ),
    22: (
        "A matrix of all positive pairs by all negative pairs: gigabytes where the cosines take megabytes.",
        (
            "tests/test_numerics.py::test_memory_grows_with_anchors_times_keys_and_nothing_worse",
            "tests/test_contrast.py::test_chunks_hold_less_at_once",
        ),
    ),
}


def names_of_tests(path: Path) -> set[str]:
    """Names of the tests of a file, `Class::method` for those in a class, without importing it."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inside = [(f"{node.name}::", each) for each in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        found |= {prefix + each.name for prefix, each in inside if isinstance(each, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_every_mistake_is_guarded_by_tests_that_exist() -> None:
    assert list(MISTAKES) == list(range(1, 23))
    nodes = [(number, *node.split("::", 1)) for number, (_, guards) in MISTAKES.items() for node in guards]
    assert {number for number, _, _ in nodes} == set(MISTAKES), "a mistake without a test"
    known = {file: names_of_tests(ROOT / file) for file in {file for _, file, _ in nodes}}
    assert [f"{file}::{name}" for _, file, name in nodes if name not in known[file]] == []
    numbered = {(int(name[5:7]), name) for name in known[HERE] if name[5:7].isdigit()}
    assert numbered == {(number, name) for number, file, name in nodes if file == HERE}


def vectors(seed: int, *rows: int, dim: int = 6) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(count, dim, generator=g), dim=1) for count in rows]


def nobodys(anchors: int, keys: int) -> Tensor:
    return torch.zeros(anchors, keys, dtype=torch.bool)


# --- 6: estimates


@pytest.mark.parametrize("detach", [True, False])
def test_06_a_clamped_anchor_feels_no_negative_and_a_free_one_does(detach: bool) -> None:
    positive = torch.tensor([[0.9], [-0.9]])
    negative = torch.tensor([[-0.9, -0.8, -0.7], [0.9, 0.8, 0.7]], requires_grad=True)
    asked: dict[str, Any] = {"temperature": 0.2, "estimate": Estimate(beta=1.0, tau_plus=0.1, detach=detach)}
    _, clamped = negative_mass(positive, negative, **asked)
    assert clamped.tolist() == [True, False]
    (gradient,) = torch.autograd.grad(info_nce(positive, negative, **asked, reduction="sum"), negative)
    for found in (gradient, info_nce_gradients(positive, negative, **asked)[1]):
        assert found[0].tolist() == [0, 0, 0] and found[1, 0] > 0


@pytest.mark.parametrize("estimate", [Estimate(beta=1.0), Estimate(tau_plus=0.1), Estimate(beta=1.0, tau_plus=0.1)])
def test_06_negatives_are_counted_and_not_assumed(estimate: Estimate) -> None:
    """Twice the same negatives are twice the mass, of the clamped too; a key that is not kept does not count."""
    positive, negative = torch.tensor([[0.1], [0.9]]), torch.tensor([[0.5, 0.3], [-0.9, -0.8]])
    asked: dict[str, Any] = {"temperature": 0.2, "estimate": estimate}
    mass, clamped = negative_mass(positive, negative, **asked)
    assert clamped.tolist() == [False, estimate.tau_plus > 0]
    twice, _ = negative_mass(positive, negative.repeat(1, 2), **asked)
    torch.testing.assert_close(twice, mass + math.log(2))
    kept = torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(2, 4)
    torch.testing.assert_close(negative_mass(positive, negative.repeat(1, 2), negative_weight=kept, **asked)[0], mass)


# --- 7, 8, 9: evaluation


def test_07_a_probe_has_as_many_outputs_as_there_are_classes() -> None:
    labels = torch.arange(13).repeat(4)
    features = torch.eye(13)[labels] + 0.1 * torch.randn(52, 13, generator=torch.Generator().manual_seed(0))
    assert fit_probe(features, labels).weight.shape == (13, 13)
    assert linear_probe(features, labels, features, labels) == 100


def test_08_the_last_epoch_is_kept_and_reported_however_good_one_before_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment(
        data=DataSettings("digits", limit=64),
        encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
        training=TrainingSettings(epochs=2, batch=16, queue_size=48, warmup_epochs=0.5, device="cpu"),
        evaluation=EvaluationSettings(every=1, test_limit=50),
    )
    scores, after_epoch = iter((100.0, 0.0)), []
    monkeypatch.setattr(fitting, "knn_accuracy", lambda *_, **__: next(scores))
    run = fit(
        experiment,
        out=tmp_path / "run",
        callbacks=[lambda run: after_epoch.append(run.encoder.head[0].weight.detach().clone())],
    )
    assert run.history.column("knn") == [100, 0]
    for kept in (run, Run.load(tmp_path / "run")):
        assert torch.equal(kept.encoder.head[0].weight, after_epoch[1])
    assert not torch.equal(*after_epoch)
    assert run.evaluate()["epochs"] == 2


def test_09_votes_of_half_precision_features_do_not_overflow() -> None:
    """Ten votes of e^10 and more of e^9.5: as float16 both sums are infinite, and the smaller label would win."""
    near, far = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.95, math.sqrt(1 - 0.95**2)]])
    bank, labels = torch.cat([near.expand(10, 2), far.expand(12, 2)]), torch.tensor([1] * 10 + [0] * 12)
    assert 10 * math.exp(10) > 12 * math.exp(9.5) > torch.finfo(torch.float16).max
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        assert knn_accuracy(bank.to(kind), labels, near.to(kind), torch.tensor([1]), protocol="knn200") == 100


# --- 10, 11, 12: the loss


def test_10_an_edge_parts_cosines_that_bfloat16_cannot() -> None:
    cosine = torch.tensor([0.8995, 0.9003])
    assert len(cosine.bfloat16().unique()) == 1
    z, keys = torch.tensor([[1.0, 0.0]]), torch.stack([cosine, (1 - cosine.square()).sqrt()], dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        s = similarities(z, z, keys, nobodys(1, 2))
        band = select(s, PLAIN, CosineBand(above=-1.0, below=0.9)).band
    assert band.tolist() == [[Band.POTENTIAL, Band.HARD]]


@pytest.mark.parametrize("form", ["sep", "in", "out"])
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0, 5.0])
def test_11_equal_features_give_the_log_of_the_number_of_terms_at_any_temperature(
    form: Any, temperature: float
) -> None:
    """And the pull is (1 − 1/8)/τ: nothing but the temperature itself scales the gradient."""
    positive, negative = torch.ones(3, 1, requires_grad=True), torch.ones(3, 7)
    loss = info_nce(positive, negative, temperature=temperature, form=form)
    assert loss.item() == pytest.approx(math.log(8), rel=1e-6)
    (pull,) = torch.autograd.grad(3 * loss, positive)
    torch.testing.assert_close(pull, torch.full((3, 1), -7 / 8 / temperature))


@pytest.mark.parametrize("rule", [RandomNegatives(0.25), RankBand(0.25, 0.5)], ids=["chance", "band"])
def test_12_fewer_negatives_lower_the_loss_and_rescaling_undoes_it(rule: Any) -> None:
    """All keys push alike, so that nothing is chosen but their number."""
    z, n = vectors(0, 5, 400)
    s = Similarities(torch.full((5, 400), 0.3), z @ n.T, torch.full((5,), 0.3), nobodys(5, 400))

    def loss(rule: NegativeRule) -> float:
        return info_nce(**terms(s, select(s, PLAIN, rule)), temperature=0.2).item()

    assert loss(AllNegatives()) == pytest.approx(math.log(401))
    assert loss(rule) == pytest.approx(math.log(101))
    assert loss(replace(rule, rescale=True)) == pytest.approx(math.log(401))


# --- 17: thresholds


@pytest.mark.parametrize("rule", [RankBand(), RankBand(0.1, 0.5, by="anchor"), RingNegatives(0.2, 0.5)])
def test_17_rank_shares_stay_where_cosines_spread_otherwise(rule: NegativeRule) -> None:
    """Half as wide and a quarter higher, as in a cone; a band in cosines does move, and may keep nothing."""
    z, positive, n = vectors(1, 8, 8, 60)
    s = similarities(z, positive, n, nobodys(8, 60))
    assert s.positive_keys is not None
    cone = replace(
        s,
        anchor_keys=s.anchor_keys / 2 + 0.25,
        positive_keys=s.positive_keys / 2 + 0.25,
        anchor_positive=s.anchor_positive / 2 + 0.25,
    )
    mining = NearestKeys(k=3, weighting="uniform")
    assert torch.equal(select(cone, mining, rule).band, select(s, mining, rule).band)
    cosines = CosineBand(above=-0.5, below=-0.25)
    assert (select(s, PLAIN, cosines).negative_weight > 0).any()
    assert not (select(cone, PLAIN, cosines).negative_weight > 0).any()


# --- 20: several processes


@pytest.mark.parametrize("rule", [AllNegatives(), RankBand(0.1, 0.8)], ids=["all", "band"])
def test_20_the_mean_over_parts_of_a_batch_is_the_batch_if_all_keys_carry_gradient(rule: NegativeRule) -> None:
    """Training here has one process. So that several may share a batch, keys are told apart by id and not by place,
    and the mean of the gradients of equal parts of the anchors, each against all keys, is that of the whole."""
    view1, view2 = vectors(2, 8, 8)
    weight = torch.eye(6).requires_grad_()
    z1, z2 = (normalize(view @ weight, dim=1) for view in (view1, view2))
    ids = torch.arange(8)

    def loss(rows: slice, keys: Tensor, key_ids: Tensor) -> Tensor:
        z, other = torch.cat([z1[rows], z2[rows]]), torch.cat([z2[rows], z1[rows]])
        compared = ids[rows].repeat(2), key_ids
        return contrastive_loss(
            z, other, keys, NearestKeys(k=2, min_weight="mean"), rule, LossSettings(), ids=compared
        ).mean()

    def gradient(*losses: Tensor) -> Tensor:
        return torch.autograd.grad(sum(losses) / len(losses), weight, retain_graph=True)[0]

    parts = slice(0, 4), slice(4, 8)
    gathered = [torch.cat([z1[part], z2[part]]) for part in parts]  # part by part, so in another order
    gathered_ids = torch.cat([ids[part].repeat(2) for part in parts])
    whole = gradient(loss(slice(None), torch.cat([z1, z2]), ids.repeat(2)))
    shared = gradient(*(loss(part, torch.cat(gathered), gathered_ids) for part in parts))
    torch.testing.assert_close(shared, whole)
    cut = [torch.cat([z if place == own else z.detach() for place, z in enumerate(gathered)]) for own in range(2)]
    lost = gradient(*(loss(part, keys, gathered_ids) for part, keys in zip(parts, cut, strict=True)))
    assert not torch.allclose(lost, whole, rtol=1e-2, atol=1e-3), "gathered without gradient, it would show"
