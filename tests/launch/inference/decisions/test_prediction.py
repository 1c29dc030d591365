from launch.inference.decisions.prediction import Settings, cleaning, functions


def test_flags_name_the_postprocessing():
    small = {"name": "jaxseg.inference.postprocess:remove_small", "min_size": 1}
    holes = {"name": "jaxseg.inference.postprocess:fill_holes", "classes": (0,)}
    assert cleaning(Settings()) == []
    assert cleaning(Settings(min_size=1)) == [small]
    assert cleaning(Settings(fill_holes=(0,))) == [holes]
    assert cleaning(Settings(min_size=1, fill_holes=(0,))) == [small, holes]


def power(base, by):
    return base**by


def test_functions_have_their_arguments():
    (raised,) = functions([{"name": f"{__name__}:power", "by": 3}], "config.predict.refine")
    assert raised(2) == 8
