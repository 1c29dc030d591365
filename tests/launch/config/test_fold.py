import pytest

from launch.config import fold, loading, run_config, schema
from launch.config.errors import UserError


def test_a_fold_is_a_part_of_some_parts():
    assert fold.parse("2/5") == (2, 5) == (fold.parse("2/5").part, fold.parse("2/5").parts)
    assert (fold.parse("20/20"), fold.parse("1/2"), fold.parse("")) == ((20, 20), (1, 2), None)


@pytest.mark.parametrize(
    "text", ["2/1", "0/5", "x", "6/5", "1/1", "1/21", "-1/5", "2/5 ", "2", "/", "1.0/5", "²/5", 0.4]
)
def test_other_words_are_no_folds(text):
    with pytest.raises(UserError, match="must be k/n with 1 <= k <= n and 2 <= n <= 20, as 2/5"):
        fold.parse(text)


def test_a_malformed_fold_is_refused_with_the_config():
    folder = loading.load("configs/unet.py:folder")
    assert loading.override(folder, ["--config.data.fold=2/5"]).data.fold == "2/5"
    with pytest.raises(UserError, match=r"config\.data\.fold=2/1: it must be k/n"):
        loading.override(folder, ["--config.data.fold=2/1"])


def test_another_fold_is_another_run():
    config = loading.load("configs/unet.py:folder")
    one, two = (schema.with_values(config, {"data.fold": text}) for text in ("1/5", "2/5"))
    assert run_config.differences(one, one) == []
    assert run_config.differences(one, two) == ["data.fold: '1/5' -> '2/5'"]
