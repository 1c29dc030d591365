import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from launch.data import order


@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 200), batch=st.integers(1, 64))
def test_every_epoch_holds_every_example_once(seed, size, batch):
    stream = np.concatenate(
        [
            order.examples_at(order.train_rows(step, batch), seed, size)
            for step in range(-(-3 * size // batch))
        ]
    )
    for epoch in range(3):
        assert sorted(stream[epoch * size : (epoch + 1) * size]) == list(range(size))


@given(step=st.integers(0, 10**9), hosts=st.sampled_from([1, 2, 3, 4, 6]), seed=st.integers(0, 99))
def test_hosts_together_see_the_batches_of_one(step, hosts, seed):
    whole = order.examples_at(order.train_rows(step, 24), seed, 1000)
    parts = [
        order.examples_at(order.train_rows(step, 24, host, hosts), seed, 1000)
        for host in range(hosts)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_epochs_and_seeds_differ():
    orders = {
        order.permutation(seed, epoch, 50).tobytes() for seed in range(3) for epoch in range(3)
    }
    assert len(orders) == 9


@given(size=st.integers(1, 300), batch=st.integers(1, 70), hosts=st.sampled_from([1, 2, 5]))
def test_evaluation_sees_each_example_once(size, batch, hosts):
    batch *= hosts
    seen = []
    for number in range(-(-size // batch)):
        for host in range(hosts):
            index, mask = order.eval_rows(number, batch, size, host, hosts)
            assert len(index) == batch // hosts
            assert index.max() < size
            seen.extend(index[mask])
    assert sorted(seen) == list(range(size))


def test_the_last_batch_repeats_the_last_example():
    index, mask = order.eval_rows(1, 4, 6)
    assert (index.tolist(), mask.tolist()) == ([4, 5, 5, 5], [True, True, False, False])
    index, mask = order.eval_rows(0, 4, 4)
    assert (index.tolist(), mask.tolist()) == ([0, 1, 2, 3], [True] * 4)


def test_rollbacks_change_the_seed_beyond_the_seeds_of_runs():
    assert [order.order_seed(7, rollbacks) for rollbacks in (0, 1, 3)] == [
        7,
        7 + 4_294_967_296,
        7 + 3 * 4_294_967_296,
    ]
