import numpy as np

from launch.reporting.metrics_writer import MetricsWriter, Sink


class Recording(Sink):
    """Writes down what it takes."""

    def __init__(self):
        self.calls = []

    def write(self, step, split, metrics):
        self.calls.append((step, split, metrics))

    def write_image(self, step, name, picture):
        self.calls.append((step, name, picture.shape, picture.dtype))

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


def test_every_sink_takes_everything_in_order():
    sinks = [Recording(), Recording()]
    writer = MetricsWriter([*sinks, Sink()])
    writer.write(3, "train", {"loss": 1.5})
    writer.write_images(4, {"samples": np.zeros((4, 60, 50, 1), np.float32)})
    writer.flush()
    writer.close()
    assert sinks[0].calls == sinks[1].calls
    assert sinks[0].calls == [
        (3, "train", {"loss": 1.5}),
        (4, "samples", (2 * 61 - 1, 2 * 51 - 1, 3), np.uint8),
        "flush",
        "close",
    ]


def test_without_sinks_nothing_is_computed():
    writer = MetricsWriter()
    writer.write(1, "train", {})
    writer.write_images(1, {"samples": None})
    writer.flush()
    writer.close()


def test_the_facts_of_all_sinks_are_one():
    class Counting(Sink):
        def __init__(self, name):
            self.name = name

        def facts(self):
            return {self.name: 1}

    assert MetricsWriter().facts() == {}
    assert MetricsWriter([Counting("a"), Sink(), Counting("b")]).facts() == {"a": 1, "b": 1}
