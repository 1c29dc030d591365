from launch.config import loading
from launch.planning.draft import Draft
from tests.launch.planning.small import SEGMENT


def draft_of(*flags):
    return Draft(loading.override(loading.load(SEGMENT), list(flags)))


def test_only_what_waits_is_set_and_all_is_said(caplog):
    caplog.set_level("INFO", "segen")
    draft = draft_of("--config.eval.batch_size=5")
    draft.settle("batch", "few", {"data.batch_size": 8, "eval.batch_size": 8})
    assert draft.values == {"data.batch_size": 8}
    assert (draft.config.data.batch_size, draft.config.eval.batch_size) == (8, 5)
    draft.settle("evaluation", "few", {"eval.batch_size": 8})
    assert "plan: batch          5  (few)" in caplog.text
    assert "plan: evaluation     5  (given)" in caplog.text


def test_only_what_was_set_is_changed():
    draft = draft_of("--config.eval.batch_size=5")
    both = {"data.batch_size": 8, "eval.batch_size": 8}
    draft.settle("batch", "few", both)
    draft.change("batch", "fewer", dict.fromkeys(both, 4))
    assert draft.values == {"data.batch_size": 4}
    assert (draft.config.data.batch_size, draft.config.eval.batch_size) == (4, 5)
