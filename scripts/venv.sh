# shellcheck shell=bash
# Where the environments are. To be sourced in the project's root.

# venv_of cpu|gpu: where that set is, or goes: VAOPD_VENV; else .venv, or .venv-SET where .venv holds the other set.
venv_of() {
  local holds=""
  if [[ -z "${VAOPD_VENV:-}" && -f .venv/.vaopd-kind ]]; then
    read -r holds _ <.venv/.vaopd-kind || true
  fi
  if [[ -z "$holds" || "$holds" == "$1" ]]; then printf '%s' "${VAOPD_VENV:-.venv}"; else printf '.venv-%s' "$1"; fi
}

# dry_venv: what a dry run of a GPU recipe uses: VAOPD_DRY_VENV; else the recipe's own environment if it is there, else
# .venv, if that is there, else .venv-dry. So a dry run never puts a CPU set where the GPU set is to go.
dry_venv() {
  local there
  for there in "$(venv_of gpu)" .venv; do
    [[ -n "${VAOPD_DRY_VENV:-}" || ! -f "$there/.vaopd-kind" ]] || { printf '%s' "$there" && return; }
  done
  printf '%s' "${VAOPD_DRY_VENV:-.venv-dry}"
}

# set_in VENV: the set it holds, cpu or gpu; nothing where there is none.
set_in() { [[ ! -f "$1/.vaopd-kind" ]] || cut -d' ' -f1 "$1/.vaopd-kind"; }

# prepare_dry_run: VAOPD_VENV becomes what a dry run of a GPU recipe uses, made with the CPU set if it is not there.
prepare_dry_run() {
  VAOPD_VENV="$(dry_venv)"
  export VAOPD_VENV
  if [[ -z "$(set_in "$VAOPD_VENV")" ]]; then bash scripts/setup.sh --cpu; else bash scripts/setup.sh; fi
}
