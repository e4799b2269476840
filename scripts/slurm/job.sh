#!/usr/bin/env bash
# The batch script of submit.sh, on the first node: Ray on every node, then the recipe on that cluster.
#
#   job.sh PROJECT RECIPE [hydra overrides]
# shellcheck disable=SC2153,SC2329  # Slurm sets its variables; stop and end_ray are called by traps
set -euo pipefail
root="$1" recipe="$2"
shift 2
cd "$root"
source scripts/venv.sh

say() { printf '%s job %s: %s\n' "$(date +%T)" "$SLURM_JOB_ID" "$*"; }
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
NNODES="${#nodes[@]}"
seen="$(nvidia-smi -L 2>/dev/null | grep -c "^GPU " || true)" # a Slurm that does not count GPUs grants all of them
case "${CPU_JOB:-} $recipe $*" in
  yes\ * | *_cpu.sh\ * | *\ --tiny*) variant=cpu ;;
  *) variant=gpu ;;
esac
if [[ "$variant" == gpu ]]; then
  N_GPUS_PER_NODE="${SLURM_GPUS_ON_NODE:-$seen}"
  if [[ "$N_GPUS_PER_NODE" == 0 ]]; then
    say "Slurm granted no GPUs: ask for them (--gpus-per-node=8), or set CPU_JOB=yes if none are wanted"
    exit 2
  fi
fi
export NNODES N_GPUS_PER_NODE="${N_GPUS_PER_NODE:-1}"
say "$NNODES nodes (${nodes[*]}), $N_GPUS_PER_NODE GPUs each; attempt $((${SLURM_RESTART_COUNT:-0} + 1))"

requeue=""
driver=""
stop() { # the run saves a checkpoint after its current step
  say "$1: asking the run to save and stop"
  if [[ -z "$driver" ]]; then exit 143; fi
  kill -TERM "$driver" 2>/dev/null || true
}
trap 'requeue=yes; stop "the time limit is near"' USR1
trap 'stop "cancelled"' TERM

VAOPD_VENV="$(venv_of "$variant")"
export VAOPD_VENV
bash scripts/setup.sh "--$variant"
python="$VAOPD_VENV/bin/python"
if [[ "$variant" == gpu && "${DOCTOR:-}" != no ]]; then
  say "looking at the nodes"
  srun --overlap --ntasks-per-node=1 --label \
    "$python" -m verl_vaopd.cli doctor --gpu --only machine --gpus "$N_GPUS_PER_NODE" --output "$RUN_DIR" ||
    { say "mend what failed, or set DOCTOR=no" && exit 1; }
fi

# Ray: any process of the network that knows the token may run code here, so there is one for each job.
RAY_AUTH_TOKEN_PATH="$RUN_DIR/.ray-token-$SLURM_JOB_ID"
(umask 077 && "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
export RAY_AUTH_TOKEN_PATH RAY_AUTH_MODE=token
others=() # the second node, as Slurm reaches it and by its name
for node in "${nodes[@]:1:1}"; do
  others=("$(scontrol show node "$node" --oneliner | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')" "$node")
done
address="${NODE_ADDRESS:-}"
if [[ -z "$address" ]]; then address="$("$python" -m verl_vaopd.launch.cluster address "${others[@]}")"; fi
port=$((20000 + SLURM_JOB_ID % 10000))
case "$address" in
  *:*) export RAY_ADDRESS="[$address]:$port" ;;
  *) export RAY_ADDRESS="$address:$port" ;;
esac
resources=()
if [[ "$variant" == cpu ]]; then # logical slots, as verl asks for one per process
  resources=(--num-cpus=16 --num-gpus="$N_GPUS_PER_NODE")
fi

steps=()
start_ray() { # NODE ARGUMENTS
  local node="$1"
  shift
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$SLURM_CPUS_ON_NODE" \
    "$python" -m verl_vaopd.launch.cluster node --disable-usage-stats "${resources[@]}" "$@" &
  steps+=("$!")
}
end_ray() {
  kill -USR2 "${steps[@]}" 2>/dev/null || true # srun passes it on to the nodes
  wait "${steps[@]}" 2>/dev/null || true
  rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap end_ray EXIT

start_ray "${nodes[0]}" --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1
for node in "${nodes[@]:1}"; do
  start_ray "$node" --address="$RAY_ADDRESS"
done
"$python" -m verl_vaopd.launch.cluster wait --nodes "$NNODES" --timeout "${RAY_NODES_SECONDS:-600}"

say "running $recipe"
bash "$recipe" "$@" &
driver=$!
status=0
while true; do # a trapped signal ends wait
  wait "$driver" && status=0 || status=$?
  kill -0 "$driver" 2>/dev/null || break
done
wait "$driver" && status=0 || status=$?
say "the run ended with status $status"
if [[ "$requeue" && "$status" == 0 && ! -e "$RUN_DIR/summary.json" ]]; then # saved, to be continued
  say "queued again"
  end_ray
  trap - TERM EXIT
  if scontrol requeue "$SLURM_JOB_ID"; then
    sleep infinity # Slurm ends this attempt; an exit status of its own could be taken for the next attempt's
  fi
  say "Slurm does not queue it again: submit it with the same RUN_DIR, and it goes on"
fi
exit "$status"
