"""GRIM's networks, the published gains around it, and the counts of its pattern."""

from math import sqrt

import pytest
import torch

from lib.errors import WrongUse
from lib.rnn import grim_checks as checks
from lib.rnn.grim import BlockColumnRow

BLOCK = (8, 16)


def pruned(
    rate: float = 6, block: tuple[int, int] = BLOCK, shape: tuple[int, int] = (96, 80)
) -> checks.Pruned:
    weight = checks.gaussian(shape, torch.Generator().manual_seed(0))
    return checks.Pruned(weight, BlockColumnRow(*block).mask(weight, rate), block)


def test_networks_have_the_parameters_and_operations_of_their_definitions() -> None:
    counts = checks.network_counts(checks.workloads())
    expected = {
        "vgg16": (138_357_544, 15_470_264_320),
        "resnet18": (11_689_512, 1_814_073_344),
        "mobilenet_v2": (3_504_872, 300_774_272),
        "vgg16_32": (14_728_266, 313_201_664),
        "resnet18_32": (11_173_962, 555_422_720),
        "gru": (9_556_992, 9_556_992),
    }
    found = {name: (counts[f"params_{name}"], counts[f"macs_{name}"]) for name in expected}
    assert found == expected
    assert (counts["conv_weights_vgg16"], counts["conv_macs_vgg16"]) == (14_710_464, 15_346_630_656)


def test_a_network_without_a_form_for_small_images_is_refused() -> None:
    with pytest.raises(WrongUse, match="mobilenet_v2"):
        checks.small_image_network("mobilenet_v2")


def test_plausible_gains_by_hand() -> None:
    gains = checks.plausible_gains()
    assert gains["vgg16_mnn"] == pytest.approx(33 / 4.3)
    assert gains["vgg16_tflite"] == max(gains.values()) == pytest.approx(33 / 1.8)
    assert gains["resnet18_mnn"] == min(gains.values()) == pytest.approx(65.5 / 27.2)


def test_published_gain_splits_into_compiler_and_pruning() -> None:
    split = checks.published_split()
    assert split["published_compiler_gain_vgg16"] == pytest.approx(139 / 103)
    # pruned 39.3 frames a joule against 1000 / 103 ms / 1.5 W
    assert split["published_pruning_gain_vgg16"] == pytest.approx(39.3 / (1000 / 103 / 1.5))


def test_pattern_of_the_projection_is_rows_times_columns() -> None:
    assert pruned().outside == 0
    weight = torch.ones(4, 4)
    broken = torch.eye(4, dtype=torch.bool)
    assert checks.Pruned(weight, broken, (4, 4)).outside == 12


def test_rate_by_hand() -> None:
    mask = torch.tensor([[True, False], [False, False]])
    assert checks.Pruned(torch.tensor([[3.0, 0.0], [4.0, 0.0]]), mask, (2, 2)).rate == 4


def test_retained_norm_by_hand_over_matrices_pruned_apart() -> None:
    first, second = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0], [1.0]])
    # single weights at 2x: 3 and 2 stay of the first, one 1 of the second
    assert checks.retained_norm_at([first, second], 2, 1) == pytest.approx(sqrt(14 / 15))
    assert checks.retained_norm_at([first, second], 1, 2) == 1


def test_matrices_of_zeros_have_no_norm_to_retain() -> None:
    with pytest.raises(WrongUse, match="zeros"):
        checks.retained_norm_at([torch.zeros(2, 2)], 2, 1)


def test_keeping_everything_changes_nothing() -> None:
    found = pruned(rate=1)
    assert (found.rate, found.outside) == (1, 0)
    facts = checks.compile_time_facts(found, lanes=8, unroll=4)
    assert facts["imbalance_as_stored"] == facts["imbalance_reordered"] == 1
    assert facts["neighbours_differ"] == 0
    assert facts["loads_shared"] == 0.25


def test_reordering_and_sharing_help_a_pruned_matrix() -> None:
    facts = checks.compile_time_facts(pruned(), lanes=16, unroll=4)
    assert 1 <= facts["imbalance_reordered"] < facts["imbalance_as_stored"]
    assert 0.25 <= facts["loads_shared"] < facts["loads_apart"] == 1
    assert facts["neighbours_differ"] > 50


def test_neighbours_of_a_matrix_of_one_block_differ_from_nothing() -> None:
    assert checks.compile_time_facts(pruned(block=(8, 80)))["neighbours_differ"] == 0


def test_shared_lists_pay_only_where_blocks_are_as_wide_as_the_matrix() -> None:
    narrow, wide = checks.storage(pruned()), checks.storage(pruned(block=(8, 80)))
    assert narrow["bcrc"] > narrow["csr"]
    assert wide["bcrc"] < wide["csr"]
    assert narrow["csb"] < narrow["csr"] < narrow["coo"]
    assert narrow["mismatches"] == wide["mismatches"] == 0


def test_whole_networks_have_every_shape_once() -> None:
    class Everything:
        def mask(self, weight: torch.Tensor, rate: float) -> torch.Tensor:
            return torch.ones_like(weight, dtype=torch.bool)

    found = checks.whole_networks(Everything(), 10, (16, 64), torch.Generator().manual_seed(0))
    assert {(3072, 39), (3072, 1024), (64, 27), (64, 147), (512, 4608), (128, 64)} <= found.keys()
    assert all(each.rate == 1 and each.weight.shape == shape for shape, each in found.items())


def test_group_height_counts_rows_of_one_pattern() -> None:
    mask = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=torch.bool)
    assert checks.Pruned(torch.ones(4, 2), mask, (1, 1)).group_height == 1.5
