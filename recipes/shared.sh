# shellcheck shell=bash
# What all recipes share. A recipe, or what it sources, sources this first: --help then prints their headers and ends.

header_of() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$1"; }

for argument in "$@"; do
  if [[ "$argument" == -h || "$argument" == --help ]]; then
    for ((index = ${#BASH_SOURCE[@]} - 1; index > 0; index--)); do
      header_of "${BASH_SOURCE[index]}"
      ((index == 1)) || echo
    done
    exit 0
  fi
done

refuse() {
  printf '%s: %s\n' "$(basename "$0" .sh)" "$1" >&2
  exit 2
}

# refuse_to_print WHY: for recipes that have no one config to print (VAOPD_PRINT_ARGUMENTS, as `verl-vaopd plan` asks).
refuse_to_print() { [[ -z "${VAOPD_PRINT_ARGUMENTS:-}" ]] || refuse "$1"; }

# sort_arguments ARGUMENTS: into `dry_run`, `options` (of verl-vaopd train alone) and `overrides` (hydra's).
# shellcheck disable=SC2034  # read by recipes
sort_arguments() {
  dry_run="" options=() overrides=()
  local restarts
  while [[ $# -gt 0 ]]; do
    case "$1" in
      --dry-run) dry_run=yes ;;
      --restarts | --restarts=*)
        restarts="${1#--restarts}"
        if [[ -z "$restarts" ]]; then restarts="=${2:-}" && shift; fi
        [[ "$restarts" =~ ^=[0-9]+$ ]] || refuse "--restarts wants a whole number, 0 or more, got '${restarts#=}'"
        options=(--restarts "${restarts#=}")
        ;;
      -*) refuse "unknown option $1: there are --dry-run, --restarts N and --help; hydra overrides are key=value" ;;
      *) overrides+=("$1") ;;
    esac
    shift || refuse "--restarts wants a number"
  done
}

# quoted TEXT: a value of hydra's grammar that means this text, whatever = , ( { or spaces are in it.
quoted() {
  if [[ "$1" =~ ^([A-Za-z][A-Za-z0-9]*_[A-Za-z0-9_]*|[A-Za-z0-9_./-]*/[A-Za-z0-9_./-]*)$ ]]; then
    printf '%s' "$1"
  else
    # A backslash is doubled before a quote and at the end; elsewhere it means itself.
    printf "'%s'" "$(sed -E "s/(\\\\+)('|\$)/\1\1\2/g; s/'/\\\\'/g" <<<"$1")"
  fi
}

# refuse_references NAMES: of variables that name folders; to the config ${ begins a reference, quoted or not.
refuse_references() {
  local name
  for name in "$@"; do
    [[ "${!name}" != *"\${"* ]] || refuse "$name=${!name}: a folder's name with \${ in it cannot be used: choose another"
  done
}

# look COMMAND: at the machine before the environment is there, or at the environment; the recipe ends where it is unfit.
look() {
  if [[ -n "${RAY_ADDRESS:-}" || "${DOCTOR:-}" == no ]]; then return; fi
  "$@" || {
    echo "$(basename "$0" .sh): mend what failed; or, if this machine is to be used as it is, set DOCTOR=no" >&2
    exit 1
  }
}

# refuse_unknown_task: TASK and WORDS, of recipes on tiny models.
refuse_unknown_task() {
  case "${TASK:-figures}" in
    figures | perimeter) [[ -z "${WORDS:-}" ]] || refuse "WORDS=$WORDS: TASK=dilution alone has words" ;;
    dilution) [[ "${WORDS:-160}" =~ ^(0|40|160)$ ]] || refuse "WORDS=$WORDS: there are 0, 40 and 160" ;;
    *) refuse "TASK=$TASK: there are figures, perimeter and dilution" ;;
  esac
}
