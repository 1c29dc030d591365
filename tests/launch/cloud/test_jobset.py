import re
from pathlib import Path

import pytest
import yaml

from launch.config.errors import Collapsed, Diverged, Interrupted, UserError
from tests.launch.cloud.stand_ins import TPU, TRAINING, calls, commands, run


def manifest(bare, settings, *words):
    done = run(
        "jobset.sh", "manifest", *words, "--", *TRAINING, settings=settings | {"PATH": str(bare)}
    )
    assert done.returncode == 0, done.stderr
    assert "@" not in "".join(line.partition("#")[0] for line in done.stdout.splitlines())
    return yaml.safe_load(done.stdout)


def test_the_manifest_of_tpu_slices(bare):
    found = manifest(bare, TPU, "--slices=2", "--spot", "--selector=a/b=c,d=e")
    assert (found["apiVersion"], found["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert found["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }
    (job,) = found["spec"]["replicatedJobs"]
    assert job["replicas"] == 2
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (4, 4, 0)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
        "a/b": "c",
        "d": "e",
    }
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "launch.train", "--distributed"]
    assert container["args"] == TRAINING
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    shared, _ = pod["volumes"]
    assert shared["csi"]["volumeAttributes"]["bucketName"] == "bucket"
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations == {"gke-gcsfuse/volumes": "true"}
    assert {"name": "shared", "mountPath": "/mnt/segen"} in container["volumeMounts"]


def test_the_manifest_of_gpu_nodes(bare):
    settings = {"NAME": "segen", "IMAGE": "i", "CLAIM": "shared", "GPUS": "8", "HOSTS": "2"}
    found = manifest(bare, settings)
    (job,) = found["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["parallelism"] == 2
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == [
        *TRAINING,
        "--coordinator=segen-slice-0-0.segen:8476",
        "--processes=2",
        "--process=$(JOB_COMPLETION_INDEX)",
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert pod["volumes"][0] == {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}


def test_kubernetes_puts_no_variables_into_the_arguments(bare):
    settings = TPU | {"PATH": str(bare)}
    done = run("jobset.sh", "manifest", "--", *TRAINING, "--config.x=$(NAME)", settings=settings)
    pod = yaml.safe_load(done.stdout)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert pod["spec"]["containers"][0]["args"][-1] == "--config.x=$$(NAME)"


def test_the_job_set_does_for_each_exit_code_what_it_asks_for(bare):
    spec = manifest(bare, TPU, "--max-restarts=5")["spec"]
    policy = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    codes = next(rule["onExitCodes"] for rule in policy if "onExitCodes" in rule)
    final = {kind.exit_code for kind in (UserError, Diverged, Collapsed)}
    assert set(codes["values"]) == final | {Interrupted.exit_code}
    assert {rule["action"] for rule in policy} == {"FailJob"}
    assert policy[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert spec["failurePolicy"]["maxRestarts"] == 5
    first, second = spec["failurePolicy"]["rules"]
    assert first["action"] == "FailJobSet"
    assert second["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    # The Job controller's words (kubernetes, pod_failure_policy.go).
    (pattern,) = first["onJobFailureMessagePatterns"]
    for code in (*codes["values"], 42):
        message = f"Container segen for pod n/p failed with exit code {code} matching FailJob rule"
        assert bool(re.search(pattern, message)) == (code in final)


@pytest.mark.parametrize("verb", ["apply", "restart"])
def test_apply_sends_what_a_dry_run_prints(verb, cloud):
    words = [verb, "--namespace=n", "--context=c", "--", *TRAINING]
    dry = run("jobset.sh", *words, settings=TPU | cloud | {"DRY_RUN": "1"})
    assert calls(cloud) == []
    done = run("jobset.sh", *words, settings=TPU | cloud)
    assert done.returncode == 0, done.stderr
    head, _, rest = dry.stdout.partition(" <<'MANIFEST'\n")
    assert calls(cloud) == commands(head)
    assert [words[3] for words in calls(cloud)] == ["delete", "apply"][verb == "apply" :]
    assert Path(cloud["CALLS"] + ".stdin").read_text() == rest.removesuffix("MANIFEST\n")
    assert "16 chips x 1.20 USD = 19.20 USD an hour" in done.stderr
    assert "jobset.sh delete --name=segen --namespace=n --context=c" in done.stderr


@pytest.mark.parametrize("verb", ["logs", "status", "image", "delete"])
def test_what_jobset_runs_is_what_a_dry_run_prints(verb, cloud):
    settings = TPU | cloud | {"YES": "1"}
    dry = run("jobset.sh", verb, settings=settings | {"DRY_RUN": "1"})
    done = run("jobset.sh", verb, settings=settings)
    assert done.returncode == 0, done.stderr
    planned = [words for words in commands(dry.stdout) if words[0] in ("kubectl", "docker")]
    assert calls(cloud) == [
        words[: words.index("<")] if "<" in words else words for words in planned
    ]
    if verb == "image":
        sent = Path(cloud["CALLS"] + ".tar").read_text().splitlines()
        assert {"mine.py", "launch/cloud/Dockerfile"} <= set(sent)
        assert not [name for name in sent if name.startswith("runs")]


def test_delete_asks(cloud):
    done = run("jobset.sh", "delete", settings=TPU | cloud)
    assert done.returncode == 1
    assert calls(cloud) == []
