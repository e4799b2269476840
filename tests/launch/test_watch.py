"""An actor that dies while nobody asks it for anything ends the driver, and is named. Engines: tests/test_kills.py."""

import subprocess
import sys

import pytest
from ray.exceptions import RayActorError

from verl_vaopd.launch import watch

WATCHED = """
import os, signal, time, ray
from verl_vaopd.launch.watch import Watch

@ray.remote
class Worker:
    def pid(self):
        return os.getpid()

@ray.remote
class Driver:
    def run(self):
        time.sleep(600)

    def pid(self):
        return os.getpid()

ray.init(address="local", num_cpus=8, include_dashboard=False, logging_level="ERROR")
workers = {name: Worker.options(name=name).remote() for name in ("student_0:0", "teacher_0:0", "of_somebody_else")}
pids = {name: ray.get(worker.pid.remote()) for name, worker in workers.items()}
driver = Driver.remote()
watch, work = Watch(driver, every_s=0.5), driver.run.remote()

os.kill(pids["of_somebody_else"], signal.SIGKILL)
assert not ray.wait([work], timeout=4)[0] and not watch.died
os.kill(pids["student_0:0"], signal.SIGKILL)
try:
    ray.get(work, timeout=600)
except ray.exceptions.ActorDiedError as error:
    print(watch.last_look(error))

driver = Driver.remote()
pid, watch, work = ray.get(driver.pid.remote()), Watch(driver), driver.run.remote()
os.kill(pid, signal.SIGKILL)
try:
    ray.get(work, timeout=600)
except ray.exceptions.ActorDiedError as error:
    print(watch.last_look(error))
"""


ENGINES = """
import time, ray
from verl_vaopd.launch.watch import Watch

class EngineDeadError(Exception):
    pass

@ray.remote
class Server:
    def __init__(self):
        self.engine, self.asked = None, 0

    def collective_rpc(self, method):
        self.asked += 1
        if not self.engine:
            raise AttributeError("no engine")
        if self.engine == "dead":
            raise EngineDeadError("it is gone")

    def set_engine(self, state):
        self.engine = state

    def questions(self):
        return self.asked

@ray.remote
class Idle:
    def run(self):
        time.sleep(600)

def questions():
    return {name: ray.get(server.questions.remote()) for name, server in servers.items()}

ray.init(address="local", num_cpus=8, include_dashboard=False, logging_level="ERROR")
names = "vllm_server_0_0", "vllm_server_0_1", "vllm_server_reward_0_0"
servers = {name: Server.options(name=name).remote() for name in names}
driver = Idle.remote()
watch, work = Watch(driver, every_s=0.2), driver.run.remote()
ray.get([server.questions.remote() for server in servers.values()])
time.sleep(3)
print(questions())
ray.get([server.set_engine.remote("up") for server in servers.values()])
loop = Idle.options(name="agent_loop_worker_0_abc").remote()
deadline = time.monotonic() + 60
while not (asked := questions())["vllm_server_0_0"] or not asked["vllm_server_reward_0_0"]:
    assert time.monotonic() < deadline and not watch.died
print({name: count > 0 for name, count in asked.items()})
ray.get(servers["vllm_server_0_0"].set_engine.remote("dead"))
try:
    ray.get(work, timeout=600)
except ray.exceptions.ActorDiedError as error:
    print(watch.last_look(error))
"""


@pytest.mark.stack
@pytest.mark.gigabytes(3)
def test_a_server_is_asked_once_its_engine_is_up_and_only_if_it_has_one():
    result = subprocess.run([sys.executable, "-c", ENGINES], capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    early, later, died = result.stdout.splitlines()[:3]
    assert early == "{'vllm_server_0_0': 0, 'vllm_server_0_1': 0, 'vllm_server_reward_0_0': 0}"
    assert later == "{'vllm_server_0_0': True, 'vllm_server_0_1': False, 'vllm_server_reward_0_0': True}"
    assert died.startswith("the vLLM engine of vllm_server_0_0 died: ")
    assert "Unhandled error" not in result.stdout + result.stderr


@pytest.mark.stack
@pytest.mark.gigabytes(3)
def test_a_worker_that_dies_ends_the_driver_and_is_named():
    start = "from verl_vaopd.launch.supervisor import run_supervised"
    supervise = f"import sys; {start}; sys.exit(run_supervised(sys.argv[1:]))"
    command = [sys.executable, "-c", supervise, sys.executable, "-c", WATCHED]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    assert "student_0:0 died: " in result.stdout and "pid: " in result.stdout  # with what Ray knows of it
    assert "the driver died: " in result.stdout
    assert "teacher_0:0" not in result.stdout


def test_a_node_without_memory_is_said_in_a_line():
    """Ray's own words are pages, and the same again for every actor that it ended. These are theirs, in part."""
    words = (
        "The actor died because of an unexpected error: 3 worker(s) were killed due to the node running low on memory. "
        "Memory on the node (IP: 10.0.0.7, ID: a17f8edd) was 22.20GB used / 23.54GB limit (0.943004) OOM kill reason: "
        "Memory usage 24014573568B exceeded threshold of 24012687360B (95.0% of 25276514304B limit) Object store ..."
    )
    assert watch._said(RayActorError()) == str(RayActorError())

    class Died(RayActorError):
        def __str__(self):
            return words

    said = watch._said(Died())
    assert said.startswith("Ray ended it because node 10.0.0.7 was out of memory (22.20GB, 23.54GB there is)")
    assert len(said) < 250
