#!/usr/bin/env bash
# Trains on a Cloud TPU slice: creates it or uses the one of that name, copies this checkout to every worker,
# installs there, and starts the same command on all of them.
#
#   ./launch_tpu.sh --name NAME --zone ZONE --type v4-32 [options] -- ARGUMENTS OF vq_jax.train
#
#   --name NAME        of the TPU VM
#   --zone ZONE        such as us-central2-b
#   --type TYPE        accelerator type, such as v4-32; needed only if the TPU VM is not there yet
#   --version VERSION  runtime image (default: tpu-ubuntu2204-base)
#   --project PROJECT  instead of gcloud's default
#   --env NAME=VALUE   set for the command; may be repeated
#   --spot             cheaper, and may be taken away; start again to resume
#   --dry-run          print the commands and run none, and the slices that the config is known to fit
#
# --workdir must be a folder that all workers see, such as gs://BUCKET/FOLDER. The command runs in
# the foreground; its output is kept in ~/vq_jax/train.log on each worker. Running this again with the same
# arguments resumes.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

name='' zone='' type='' version=tpu-ubuntu2204-base project='' spot='' dry_run=''
environment=()
while (($#)); do
  case $1 in
    --name | --zone | --type | --version | --project | --env)
      (($# > 1)) || fail "$1 needs a value."
      case $1 in
        --name) name=$2 ;;
        --zone) zone=$2 ;;
        --type) type=$2 ;;
        --version) version=$2 ;;
        --project) project=$2 ;;
        --env)
          [[ $2 =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] || fail "--env $2 is not of the form NAME=VALUE."
          environment+=("$2")
          ;;
      esac
      shift 2
      ;;
    --spot) spot=1 && shift ;;
    --dry-run) dry_run=1 && shift ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" && exit ;;
    --) shift && break ;;
    *) fail "$1 is not an option; write the arguments of vq_jax.train after --." ;;
  esac
done
[[ $name ]] || fail '--name is missing.'
[[ $zone ]] || fail '--zone is missing.'
(($#)) || fail 'the arguments of vq_jax.train are missing; write them after --.'
[[ $dry_run ]] || command -v gcloud >/dev/null || fail 'gcloud is not installed; install the Google Cloud CLI.'

cd "$(dirname "$0")"
where=(--zone "$zone")
[[ $project ]] && where+=(--project "$project")
tpu=(gcloud compute tpus tpu-vm)

run() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_workers() {
  run "${tpu[@]}" ssh "$name" "${where[@]}" --worker=all --command "$1"
}

create() {
  [[ $type ]] || fail "there is no TPU VM $name in $zone; give --type to create it."
  run "${tpu[@]}" create "$name" "${where[@]}" --accelerator-type "$type" --version "$version" ${spot:+--spot}
}

# A line that names the slices which benchmarks/topologies.py found a config to fit as it is, if it found any.
fitting() {
  python3 - "$@" <<'PYTHON'
import json
import re
import sys

given = re.search(r'(?:^|\0)--config[=\0](?:[^\0]*/)?([^\0]*)', '\0'.join(sys.argv[1:]))
name = given[1].replace('.py', '') if given else ''
with open('benchmarks/topologies.json') as file:
    records = [record for record in json.load(file) if name in record['names'] and record['fits']]
if records:
    slices = (f'{record["topology"]} ({record["accelerator_type"]})' for record in records)
    print(f'# {name} as it is fits {", ".join(slices)}; see docs/slices.md')
PYTHON
}

if [[ $dry_run ]]; then
  if command -v python3 >/dev/null; then fitting "$@"; fi
  echo "# if there is no TPU VM $name in $zone:"
  [[ $type ]] && create
elif "${tpu[@]}" describe "$name" "${where[@]}" >/dev/null 2>&1; then
  echo "using the TPU VM $name in $zone"
else
  create
fi

# What git tracks, as it is in this folder.
archive=$(mktemp -d)
trap 'rm -rf "$archive"' EXIT
git ls-files -z | tar --null -czf "$archive/vq_jax.tar.gz" -T -
if [[ $dry_run ]]; then
  run "${tpu[@]}" scp vq_jax.tar.gz "$name:" "${where[@]}" --worker=all
else
  run "${tpu[@]}" scp "$archive/vq_jax.tar.gz" "$name:" "${where[@]}" --worker=all
fi
install='mkdir -p vq_jax && tar -xzf vq_jax.tar.gz -C vq_jax && cd vq_jax'
# The images have Python 3.10, and uv brings a newer one.
install+=' && { [ -d .venv ] || { python3 -m pip install --quiet --user uv && python3 -m uv venv --quiet --seed --python 3.13 .venv; }; }'
install+=' && .venv/bin/pip install --quiet -r requirements.txt "jax[tpu]" -c constraints.txt'
install+=' && .venv/bin/pip install --quiet --no-deps -e .'
on_workers "$install"

# Quoted for the workers' shell, so that spaces and quotes in arguments arrive as they are.
command=$(printf '%q ' ${environment[@]+"${environment[@]}"} .venv/bin/python -m vq_jax.train --distributed "$@")
on_workers "set -o pipefail; cd vq_jax && env $command 2>&1 | tee train.log"
