"""What a step sends: from HLO text, and against the sizes of the parameters."""

import jax
import pytest

from launch import scaling
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments

HLO = """
  %all-reduce.1 = (f32[10,3]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1, replica_groups=[1,8]<=[8], use_global_device_ids=true, to_apply=%add
  %ag = bf16[64,2]{1,0} all-gather(%c), channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %rs = f32[5]{0} reduce-scatter(%d), channel_id=3, replica_groups=[2,4]<=[8], dimensions={0}
  %one = f32[7]{0} all-reduce(%e), replica_groups={{0},{1}}, to_apply=%add
  %started = f32[100]{0} all-reduce-start(%f), channel_id=4, replica_groups={}, to_apply=%add
  %done = f32[100]{0} all-reduce-done(%started)
  %not = f32[9]{0} add(%all-reduce.1, %ag)
"""  # noqa: E501


def test_collectives_are_read_from_hlo():
    found = scaling.collectives(HLO, devices=8)
    assert [(item.kind, item.size, item.group) for item in found] == [
        ("all-reduce", 124, 8),
        ("all-gather", 256, 4),
        ("reduce-scatter", 80, 4),
        ("all-reduce", 400, 8),
    ]
    assert [item.sent for item in found] == pytest.approx([217, 192, 60, 700])


@pytest.fixture(scope="module")
def rows(small_config):
    config = small_config.copy_and_resolve_references()
    for net in ("encoder", "decoder"):
        config.model[net].widths = (512,)
    return {row["layout"]: row for row in scaling.measure(config, [8], 1e9, 1e9)}, config


def test_data_parallel_sends_the_gradients_once(rows):
    found, config = rows
    data = batches.open_data(config.data, "train")
    params = experiments.build(config, data).compiled.template.params
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(params))
    # And the sums of the metrics, a few numbers.
    assert found["data"]["sent_mb"] == pytest.approx(2 * 7 / 8 * size / 1e6, rel=2e-3)
    assert set(found["data"]["operations"]) == {"all-reduce"}


def test_fsdp_divides_the_state_and_sends_more(rows):
    found, _ = rows
    # All but the smallest leaves are divided by 8.
    assert found["fsdp"]["state_mb"] < found["data"]["state_mb"] / 5
    assert found["fsdp"]["sent_mb"] > found["data"]["sent_mb"]
    assert found["fsdp"]["operations"]["all-gather"] > 0


def test_the_batch_that_hides_sending(rows):
    found, _ = rows
    row = found["data"]
    seconds = row["images_per_device_to_hide"] * row["gflop_per_image"] * 1e9 / 1e9
    assert seconds == pytest.approx(row["sent_mb"] * 1e6 / 1e9)
    assert "images/device" in scaling.table([row])


@pytest.mark.parametrize("value", ["", "1,8", "8,x"])
def test_numbers_of_devices_that_cannot_be(value):
    with pytest.raises(UserError, match="numbers from 2 on"):
        scaling._counts(value)
