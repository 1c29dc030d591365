from jax._src import distributed

from launch.distributed import private_jax

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_slurm_tells_a_process_its_place(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    address, processes, process, devices = private_jax.detect_cluster(5.0)
    assert address.startswith("node3:")
    assert (processes, process, list(devices)) == (2, 1, [0])


def test_outside_of_a_cluster_there_is_no_place():
    assert private_jax.detect_cluster(5.0)[:3] == (None, None, None)


def test_the_client_of_the_service_and_the_place(monkeypatch):
    state = distributed.global_state
    for name, value in {"client": "the client", "process_id": 3, "num_processes": 4}.items():
        monkeypatch.setattr(state, name, value)
    assert private_jax.coordination_service() == ("the client", 3, 4)
