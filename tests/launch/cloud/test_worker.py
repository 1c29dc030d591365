import subprocess

import pytest

from launch.config.errors import Collapsed, Diverged, Interrupted, PeerLost, UserError
from tests.launch.cloud.stand_ins import CLOUD, TRAINING, eventually, home, trained


@pytest.mark.parametrize(
    ("codes", "starts", "last"),
    [
        ([PeerLost.exit_code, 137, 134, 0], 4, 0),
        ([UserError.exit_code, 0], 1, UserError.exit_code),
        ([Diverged.exit_code, 0], 1, Diverged.exit_code),
        ([Collapsed.exit_code, 0], 1, Collapsed.exit_code),
        ([Interrupted.exit_code, 0], 1, Interrupted.exit_code),
        ([1, 0], 1, 1),
        ([PeerLost.exit_code] * 9, 4, PeerLost.exit_code),
    ],
)
def test_a_worker_starts_again_what_broke_and_only_that(codes, starts, last, cloud):
    (home(cloud) / "mounted").touch()
    (home(cloud) / "codes").write_text("".join(f"{code}\n" for code in codes))
    environment = cloud | {"HOME": str(home(cloud)), "WORKER": "0", "RESTARTS": "3"}
    subprocess.run(
        ["bash", CLOUD / "worker.sh", "start", *TRAINING],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    exit_file = home(cloud) / "segen-run" / "exit"
    eventually(lambda: exit_file.exists() and exit_file.read_text())
    assert exit_file.read_text() == f"{last}\n"
    assert len(trained(cloud)) == starts
