#!/usr/bin/env bash
# Looks every pinned package up among the known vulnerabilities (pip-audit, by the package index's advisories).
#
#   bash scripts/audit.sh [requirements files]
#
# Needs the network. A package that cannot be looked up fails the audit: it must not pass unseen.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv="$(command -v uv || echo "${VAOPD_VENV:-.venv}/bin/uv")"
[[ -x "$uv" ]] || { echo "audit: no uv: bash scripts/setup.sh, or install uv" >&2 && exit 2; }
files=("$@")
if (($# == 0)); then files=(requirements/*.txt); fi

status=0
for file in "${files[@]}"; do
  echo "audit: $file"
  "$uv" tool run --quiet --from pip-audit==2.10.1 pip-audit --strict --no-deps --disable-pip --requirement "$file" || status=1
done
exit "$status"
