"""What a step sends: from HLO text, and against the sizes of the parameters."""

import json
import logging

import jax
import numpy as np
import pytest

from launch import scaling
from launch.config import loading
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
  %a2a = u8[12]{0} all-to-all(%g), replica_groups={{0,1},{2,3}}
  %cp = s32[3]{0} collective-permute(%h), source_target_pairs={{0,1}}
  %not = f32[9]{0} add(%all-reduce.1, %ag)
"""  # noqa: E501


def test_collectives_are_read_from_hlo():
    found = scaling.collectives(HLO, devices=8)
    assert [(item.kind, item.size, item.group) for item in found] == [
        ("all-reduce", 124, 8),
        ("all-gather", 256, 4),
        ("reduce-scatter", 80, 4),
        ("all-reduce", 400, 8),
        ("all-to-all", 12, 2),
        ("collective-permute", 12, 8),
    ]
    assert [item.sent for item in found] == pytest.approx([217, 192, 60, 700, 6, 12])


@pytest.mark.parametrize(
    ("size", "dtypes"),
    [
        (0, "token"),
        (1, "pred s8 u8 f8e4m3fn"),
        (2, "bf16 f16 s16 u16"),
        (4, "f32 s32 u32"),
        (8, "f64 s64 c64"),
        (16, "c128"),
    ],
)
def test_bytes_of_each_dtype(size, dtypes):
    for dtype in dtypes.split():
        assert scaling._bytes(dtype, "2,3") == 6 * size
        assert scaling._bytes(dtype, "") == size


def images(split):
    return {"image": np.zeros((64, 8, 8, 1), np.uint8)}


@pytest.fixture(scope="module")
def config(small_config):
    config = small_config.copy_and_resolve_references()
    config.data.data_dir = ""
    config.data.name = f"{__name__}:images"
    for net in ("encoder", "decoder"):
        config.model[net].widths = (128,)
    return config


@pytest.fixture(scope="module")
def rows(config):
    before = config.to_dict()
    found = {row["layout"]: row for row in scaling.measure(config, [4], 2e9, 1e9)}
    assert config.to_dict() == before
    return found


@pytest.fixture(scope="module")
def template(config):
    """The state of the run on one device."""
    data = batches.open_data(config.data, "train")
    return experiments.build(config, data).compiled.template


def size_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_data_parallel_sends_the_gradients_once(rows, template):
    # And the sums of the metrics, a few numbers.
    sent = 2 * 3 / 4 * size_of(template.params) / 1e6
    assert rows["data"]["sent_mb"] == pytest.approx(sent, rel=2e-3)
    assert set(rows["data"]["operations"]) == {"all-reduce"}
    assert (rows["data"]["devices"], rows["fsdp"]["devices"]) == (4, 4)


def test_fsdp_divides_the_large_arrays_and_sends_more(rows, template):
    large = [leaf for leaf in jax.tree.leaves(template) if leaf.size >= 4096]
    assert len(large) == 2 * 4  # two kernels, the moments of Adam, and the average
    saved = 3 / 4 * size_of(large) / 1e6
    state = size_of(template) / 1e6
    assert rows["data"]["state_mb"] == pytest.approx(state, rel=0.02)  # and a batch
    assert rows["data"]["state_mb"] - rows["fsdp"]["state_mb"] == pytest.approx(saved, rel=1e-3)
    assert rows["fsdp"]["sent_mb"] > rows["data"]["sent_mb"]
    assert rows["fsdp"]["operations"]["all-gather"] > 0
    assert rows["fsdp"]["temporaries_mb"] > 0


def test_the_batch_that_hides_sending(rows, template, config):
    row = rows["data"]
    seconds = row["images_per_device_to_hide"] * row["gflop_per_image"] * 1e9 / 1e9
    assert seconds == pytest.approx(row["sent_mb"] * 1e6 / 2e9)
    # A dense layer costs 2 operations a weight forwards and 4 backwards, the first 2.
    flop = 6 * sum(leaf.size for leaf in jax.tree.leaves(template.params))
    assert 0.5 < row["gflop_per_image"] * 1e9 / flop < 3


ROW = {
    "devices": 8,
    "layout": "fsdp",
    "sent_mb": 1234.56,
    "state_mb": 2.0,
    "temporaries_mb": 3.14,
    "gflop_per_image": 0.5,
    "images_per_device_to_hide": 6.28,
    "operations": {},
}


def test_the_table_is_aligned():
    assert scaling.table([ROW]).splitlines() == [
        "devices  layout   sent/step  state/device  temporaries  GFLOP/image        hidden from",
        "      8    fsdp  1,234.6 MB        2.0 MB       3.1 MB         0.50  6.3 images/device",
    ]


def test_the_command_prints_json_and_a_table(monkeypatch, capsys, caplog, config):
    asked, settings = [], {}

    def measure(config, counts, bandwidth, speed):
        asked.append((counts, bandwidth, speed))
        yield ROW

    monkeypatch.setattr(loading, "load", lambda spec: config)
    monkeypatch.setattr(scaling, "measure", measure)
    monkeypatch.setattr(scaling.jax.config, "update", settings.__setitem__)
    with caplog.at_level(logging.INFO, "segen"):
        scaling.main(["--config=a.py", "--devices=2,4", "--bandwidth=3", "--flops=5"])
        assert json.loads(capsys.readouterr().out) == [ROW]
        scaling.main(["--config=a.py"])
    assert asked == [([2, 4], 3e9, 5e12), ([8, 64, 256], 50e9, 200e12)]
    assert settings["jax_num_cpu_devices"] == 256
    assert settings["jax_platforms"] == "cpu"
    assert scaling.table([ROW]) in caplog.text


def test_numbers_of_devices():
    assert scaling.parse_counts("2") == [2]
    assert scaling.parse_counts("8,64,256") == [8, 64, 256]


@pytest.mark.parametrize("value", ["", "1,8", "8,1", "8,x"])
def test_numbers_of_devices_that_cannot_be(value):
    with pytest.raises(UserError, match=f"--devices={value}: expected numbers from 2 on"):
        scaling.parse_counts(value)
