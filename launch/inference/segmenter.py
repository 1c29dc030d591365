"""Applies trained segmenters to files: read, predict in windows, average, decide."""

from collections.abc import Iterator, Sequence

import numpy as np

from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.inference import ensembles, priors
from launch.inference.decisions.exclusive import Exclusive
from launch.inference.decisions.objects import PLANES, Objects
from launch.inference.decisions.overlapping import Overlapping
from launch.inference.decisions.prediction import Prediction, Settings
from launch.inference.members import Files, Member

PLAIN = Settings()


class Segmenter:
    """Labels images of any size, with the settings of the config's section `predict`.

    Args:
      runs: trained runs, whose maps are averaged. Names, refinement and post-processing are
        those of the first.
      batch_size: windows at a time, rounded up to a multiple of the devices.
      depth: whether the files include depth maps.
      settings: what the command asks for beside the config.

    Attributes:
      restored: the first run.
      members: a predictor for each run.
      names: of the classes, or numbers where they have none.
      reading: how the files of training were read; None for data that were no files.
      decision: how maps become results; see `launch.inference.decisions`.

    Raises:
      UserError: a task cannot predict, needs channels that files do not have, or does not fit
        the settings.
    """

    def __init__(
        self,
        runs: Sequence[trained_runs.Restored],
        batch_size: int,
        depth: bool,
        settings: Settings = PLAIN,
    ):
        self.restored = runs[0]
        self.members = [Member(run, batch_size, depth) for run in runs]
        self.reading = self.members[0].reading
        uncertain = len(runs) > 1 or bool(self.restored.config.task.get("passes"))
        colours = self.reading.colours if self.reading else ()
        outputs = self.members[0].outputs()
        self.decision = _decision(self.restored, outputs, settings, uncertain, colours)
        self.names = self.decision.names

    def read(self, files: Files) -> list[dict[str, np.ndarray]]:
        """Reads an image, and its depth if the nets were trained with depth.

        Args:
          files: the image, and its depth map or None.

        Returns:
          For each run, what it sees: see `Member.read`. Runs that read alike share one.

        Raises:
          ValueError: as `Member.read`.
        """
        examples = []
        for number, member in enumerate(self.members):
            alike = next((n for n in range(number) if member.reads_like(self.members[n])), None)
            examples.append(member.read(files) if alike is None else examples[alike])
        return examples

    def label(
        self, examples: list[dict], prior: tuple[np.ndarray, np.ndarray] | None
    ) -> Prediction:
        """Labels one image: windows, mean over the runs, decision.

        Args:
          examples: the result of `read`.
          prior: class shares [K] of training and of the target; None for no correction.

        Returns:
          The prediction.
        """
        return self.decision.decide(self.posterior(examples), examples[0]["image"], prior)

    def posterior(self, examples: list[dict]) -> Iterator[dict[str, np.ndarray]]:
        """Predicts an image of any size in strips, so that memory holds a few rows at a time.

        Args:
          examples: the result of `read`.

        Returns:
          {name: [n, W, ...]}: the next n rows of the maps, from the top.
        """
        streams = [
            member.strips(example) for member, example in zip(self.members, examples, strict=True)
        ]
        return streams[0] if len(streams) == 1 else ensembles.mean_strips(streams)

    def prior(self, value: str, items: list[Files]) -> tuple[np.ndarray, np.ndarray] | None:
        """Finds the class shares of training and of the target.

        Args:
          value: of --prior: "" for no correction, shares such as "0.5,0.3,0.2", or
            "estimate", which runs EM over all images (Saerens et al. 2002).
          items: the images.

        Returns:
          Shares [K] of training and of the target, each with the sum 1; None for no
          correction.

        Raises:
          UserError: the value is not shares, the state of a task has no class frequencies,
            no image can be read, or the classes have no shares.
        """
        if not value:
            return None
        if not isinstance(self.decision, Exclusive):
            raise UserError("--prior: only classes that exclude each other have shares")
        old = priors.of_training([member.restored for member in self.members])
        if value != "estimate":
            return old, priors.given(value, len(old))
        return old, priors.estimate(self, items, old)


def _decision(restored, outputs, settings, uncertain, colours):
    """How the maps that a task predicts become results."""
    config = restored.config
    count = config.task.get("classes", 0)
    names = tuple(config.task.get("names") or restored.data.split.classes)
    names = names if len(names) == count else tuple(map(str, range(count)))
    if "probability" in outputs:
        return Exclusive(names, config.predict, settings, uncertain, colours)
    if "presence" in outputs:
        thresholds = tuple(config.task.get("thresholds") or ())
        return Overlapping(names, config.predict, thresholds, settings)
    if set(PLANES) <= set(outputs):
        return Objects(config.predict, config.task.to_dict(), settings)
    raise UserError(
        f"{config.task.name} predicts {', '.join(outputs)}; masks are made of probability, of "
        "presence, or of foreground and distance"
    )
