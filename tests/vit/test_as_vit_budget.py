"""The cost formula of AS-ViT: by hand, against a trace, its gradient, and what cannot be met."""

import pytest
import torch

from hw_models import trace
from lib.errors import WrongUse
from lib.lab.backbones import build
from lib.vit import as_vit
from lib.vit.as_vit_budget import Budget
from tests.vit.parts import network, pictures

TOY = Budget(
    dim=2, mlp_ratio=3.0, depth=4, tokens=5, prefix=1, embedding=7, blocks=(1, 3), reference_tokens=5
)


def test_block_by_hand() -> None:
    # 4 x 4 x 5 + 2 x 2 x 25 + 2 x 3 x 4 x 5
    assert TOY.block(5.0) == 80 + 100 + 120


def test_counts_by_hand() -> None:
    # one block of 5 tokens, two of 1 + 2, one of 1 + 0
    expected = 7 + TOY.block(5.0) + 2 * TOY.block(3.0) + TOY.block(1.0)
    assert TOY.of_counts(torch.tensor([[2.0, 0.0]])).tolist() == [expected]


def test_stages_not_in_use_drop_nothing() -> None:
    expected = 7 + 3 * TOY.block(5.0) + TOY.block(2.0)
    assert TOY.of_counts(torch.tensor([[1.0]]), in_use=[1]).tolist() == [expected]


def test_keeping_all_costs_the_dense_network() -> None:
    assert TOY.of_counts(torch.tensor([[4.0, 4.0]])).tolist() == [TOY.dense]


def test_images_are_counted_one_by_one() -> None:
    keeps = [torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1]]), torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])]
    assert TOY.macs(keeps).tolist() == TOY.of_counts(torch.tensor([[2.0, 1.0], [4.0, 4.0]])).tolist()


@pytest.mark.parametrize("name", ["small", "lv"])
def test_formula_is_the_trace_of_the_gathered_network(name: str) -> None:
    backbone = network(name)
    host = as_vit.prune(backbone, blocks=(2, 5, 7), thresholds=(0.004, 0.005, 0.006)).eval()
    image = pictures(1, backbone)
    with torch.inference_mode():
        formula = Budget.of(host).macs([stage.keep for stage in host(image).stages])
    layers = trace(host, image).layers
    counted = sum(layer.macs for layer in layers if "head" not in layer.name and "stages" not in layer.name)
    assert counted == pytest.approx(formula.item(), rel=0.002)  # the class row is computed once more to look


def test_released_reference_forgets_the_class_token() -> None:
    host = as_vit.prune(build("deit_s"))
    assert Budget.of(host, as_released=True).dense / 1e9 == pytest.approx(4.574, abs=5e-4)
    assert Budget.of(host).dense / 1e9 == pytest.approx(4.598, abs=5e-4)


def test_mlp_ratio_is_the_networks_own() -> None:
    assert Budget.of(as_vit.prune(network("lv"), blocks=(2, 5, 7))).mlp_ratio == 3.0


def test_lowest_budget_by_hand() -> None:
    assert TOY.lowest == (7 + TOY.block(5.0) + 3 * TOY.block(1.0)) / TOY.dense


@pytest.mark.parametrize("t", [0.1, 1.1])
def test_a_budget_that_cannot_be_met_is_refused_with_the_lowest(t: float) -> None:
    with pytest.raises(WrongUse, match=rf"{t:g} of the dense.*lowest is {TOY.lowest:.3f}"):
        TOY.check(t)


def test_shares_meet_the_budget() -> None:
    budget = Budget.of(as_vit.prune(network()))
    shares = budget.shares(0.6)
    assert shares[1] == pytest.approx(shares[0] ** 2)
    counts = 49 * torch.tensor([shares], dtype=torch.float64)
    assert budget.of_counts(counts).item() / budget.dense == pytest.approx(0.6, abs=1e-6)
