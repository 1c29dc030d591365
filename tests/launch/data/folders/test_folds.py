from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.config.errors import UserError
from launch.config.fold import Fold
from launch.data.bad_file import BadFile
from launch.data.folders import folds
from launch.data.folders.pairs import Pair

ROOT = Path("/d")

NAMES = st.sets(st.text("abc_0123", min_size=1, max_size=6), min_size=20, max_size=60)
FOLDS = st.integers(2, 20).flatmap(lambda n: st.builds(Fold, st.integers(1, n), st.just(n)))


def pair(name, split="train"):
    image = ROOT / split / f"{name}.png"
    return Pair(name, image, (image.with_suffix(".gif"),))


def held_out(pairs, fold, **options):
    train, val = folds.divide(ROOT, pairs, fold, **options)
    assert sorted([*train, *val], key=pairs.index) == pairs
    assert [*filter(train.__contains__, pairs)] == train  # in the order given
    return val


def parts(pairs, count, **options):
    return [held_out(pairs, Fold(part, count), **options) for part in range(1, count + 1)]


@settings(max_examples=25)
@given(NAMES, st.integers(2, 20))
def test_the_parts_share_the_pairs_evenly(names, count):
    pairs = [pair(name) for name in sorted(names)]
    divided = parts(pairs, count)
    assert sorted((one for part in divided for one in part), key=pairs.index) == pairs
    assert {len(part) for part in divided} <= {len(pairs) // count, -(-len(pairs) // count)}


@settings(max_examples=25)
@given(NAMES, FOLDS, st.randoms())
def test_neither_the_order_nor_the_split_matters(names, fold, random):
    pairs = [pair(name) for name in names]
    moved = [pair(one.name, random.choice(("train", "val"))) for one in pairs]
    random.shuffle(moved)
    assert {one.name for one in held_out(pairs, fold)} == {
        one.name for one in held_out(moved, fold)
    }


@settings(max_examples=25)
@given(NAMES, st.integers(2, 5), st.data())
def test_a_pair_that_is_added_moves_few_others(names, count, data):
    pairs = [pair(name) for name in names]
    pairs.remove(new := data.draw(st.sampled_from(pairs)))
    before, after = parts(pairs, count), parts([*pairs, new], count)
    gone = sum(len(set(old) - set(now)) for old, now in zip(before, after, strict=True))
    assert gone < count


def test_another_seed_divides_in_another_way():
    pairs = [pair(str(number)) for number in range(40)]
    assert held_out(pairs, Fold(1, 4)) == held_out(pairs, Fold(1, 4), seed=0)
    assert held_out(pairs, Fold(1, 4)) != held_out(pairs, Fold(1, 4), seed=1)


def test_names_that_two_splits_share_do_not_stay_together():
    pairs = [pair(str(number), split) for split in ("train", "val") for number in range(5)]
    assert [len(part) for part in parts(pairs, 5)] == [2] * 5
    assert [len(part) for part in parts(pairs[:7], 7)] == [1] * 7


@settings(max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=12, max_size=30), st.integers(2, 4))
def test_a_group_stays_together(sizes, count):
    pairs = [pair(f"p{g}_{i}") for g, size in enumerate(sizes) for i in range(size)]
    divided = parts(pairs, count, group=r"/(p\d+)_\d+\.png$")
    patients = [{one.name.partition("_")[0] for one in part} for part in divided]
    assert sum(map(len, patients)) == len(set().union(*patients)) == len(sizes)
    # Each end of a part lies half a group from where it should be, at most.
    assert all(abs(len(part) - len(pairs) / count) <= max(sizes) for part in divided)


def test_groups_that_cannot_be_divided():
    pairs = [pair(f"p{number // 5}_{number}") for number in range(10)]
    with pytest.raises(BadFile, match="10 images in 2 groups, the largest of 5: too few for 3"):
        folds.divide(ROOT, pairs, Fold(1, 3), group=r"(p\d)_")
    with pytest.raises(BadFile, match=r"p0_0.png: group='\(q\\\\d\)' is not in its path train/p0"):
        folds.divide(ROOT, pairs, Fold(1, 2), group=r"(q\d)")
    with pytest.raises(BadFile, match="is not in its path"):
        folds.divide(ROOT, pairs, Fold(1, 2), group=r"(q\d)|p")


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_pairs_than_parts(count):
    pairs = [pair(str(number)) for number in range(count)]
    with pytest.raises(BadFile, match=f"/d: train and val have {count} images: too few for 5 fol"):
        folds.divide(ROOT, pairs, Fold(5, 5))


@pytest.mark.parametrize(
    ("fold", "group", "error", "message"),
    [
        ("2/1", "", UserError, "must be k/n"),
        ("", "(a)", ValueError, r"group='\(a\)' has no effect without a fold"),
        ("1/2", "(a", ValueError, "is no regular expression"),
        ("1/2", 3, ValueError, "is no regular expression"),
        ("1/2", "a", ValueError, "has no group; write it in parentheses"),
    ],
)
def test_arguments_that_cannot_work(fold, group, error, message):
    with pytest.raises(error, match=message):
        folds.check(fold, group)
    folds.check("2/2", "(a)")
    folds.check("", "")
