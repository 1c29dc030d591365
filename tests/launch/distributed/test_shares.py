import pytest

from launch import distributed
from launch.distributed import shares
from tests.launch.distributed.test_processes import everyone, groups


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_shares_together_are_everything_in_order(count, monkeypatch):
    monkeypatch.setattr(shares, "AT_ONCE", 1)  # in several messages

    def work(group):
        results = [item * item for item in shares.own(group, range(count))]
        return results, shares.in_order(group, "squares", results, count)

    squares = [item * item for item in range(count)]
    answers = everyone(groups(3), work)
    assert [gathered for _, gathered in answers] == [squares] * 3
    assert [results for results, _ in answers] == [squares[first::3] for first in range(3)]


def test_one_process_has_everything():
    items = list("abc")
    assert shares.own(distributed.ALONE, items) == items
    assert shares.in_order(distributed.ALONE, "letters", items, 3) == items


def test_a_process_may_take_longer_than_others_wait(monkeypatch):
    """--wait is for processes that do the same; shares take as long as they take."""
    asked = []
    gather = lambda label, value, seconds: asked.append(seconds) or [value]
    monkeypatch.setattr(distributed.ALONE, "all_gather", gather)
    shares.in_order(distributed.ALONE, "letters", ["a"], 1)
    assert asked == [distributed.WORK_SECONDS]
