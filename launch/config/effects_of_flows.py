"""Keys of flows and auto-encoders that have no effect without others; see `effects`."""

from launch.config.effects import Rule

RULES = {  # by the name of the task
    "jaxgen.flow:flow": (
        Rule(
            ("task.sampling.autoguidance",),
            lambda values, facts: False,
            "it is for launch.sample and launch.evaluate with --weaker",
        ),
        Rule(
            ("task.class_dropout",),
            lambda values, facts: values.get("task.classes", 0) != 0,
            "config.task.classes is 0, so no example has a class to train without",
            flags_alone=True,
        ),
        Rule(
            ("task.draws",),
            lambda values, facts: values.get("task.levels", 0) != 0,
            "config.task.levels is 0, so no bound on -log p is scored",
            flags_alone=True,
        ),
    ),
    "jaxgen.autoencoder:autoencoder": (
        Rule(
            ("task.kl",),
            lambda values, facts: not values.get("task.levels"),
            "config.task.levels are given, and codes have no KL divergence",
            flags_alone=True,
        ),
    ),
}
