from launch.config import schema
from launch.engine import memory_advice


def test_advice_names_the_keys_and_their_values():
    values = schema.flatten(schema.defaults().to_dict()) | {
        "data.kwargs.size": (64, 64),
        "data.kwargs.limit": 512,
        "model.widths": (8, 16),
        "model.name": "a:b",
        "data.resident": True,
    }
    assert memory_advice.advise(values, True) == (
        "Less is needed with a smaller config.data.batch_size (128), or with a larger "
        "config.train.accumulate (1), or with a smaller config.data.kwargs.size ((64, 64)), or "
        "with a smaller config.model.widths ((8, 16)), or with config.data.resident=False, or "
        "with config.train.remat=blocks"
    )
    assert "accumulate" not in memory_advice.advise(values, False)
    assert "accumulate" not in memory_advice.advise(values | {"train.accumulate": 128}, True)
    assert "kwargs.limit (512)" in memory_advice.advise(values | {"data.kwargs.size": (0, 0)}, True)
    one = schema.flatten(schema.defaults().to_dict()) | {"data.batch_size": 1}
    for remat, parallel, less in (
        ("nothing", "jit", "config.train.remat=blocks"),
        ("blocks", "jit", "config.train.remat=all"),
        ("all", "jit", "a smaller net"),
        ("nothing", "pmap", "a smaller net"),
    ):
        options = {"train.remat": remat, "parallel": parallel}
        assert memory_advice.advise(one | options, True) == f"Less is needed with {less}"
