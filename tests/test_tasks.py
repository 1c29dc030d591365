import jaxgen.task
import jaxseg.task


def test_the_two_libraries_have_tasks_of_the_same_form():
    generation, segmentation = jaxgen.task.Task, jaxseg.task.Task
    assert generation._fields == segmentation._fields
    assert generation._field_defaults == segmentation._field_defaults
