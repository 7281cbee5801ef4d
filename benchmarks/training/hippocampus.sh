#!/bin/sh
# Five folds of hippocampus-mr on the 200 cases, each tested once, and their ensemble; scores are in OUTPUT/model/README.md.
# Stops after MINUTES, and the same command goes on from there: on a GPU in a few calls, on a CPU over hours.
#
#   sh benchmarks/training/hippocampus.sh DATA OUTPUT [MINUTES] [DEVICE]
set -e
here=$(dirname "$0")
PYTHONPATH="$here/../../MedSegReg${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -m MedSegRegLib train "$1" \
    --settings "$here/hippocampus.json" --output "$2" --stop-after "${3:-9}" --device "${4:-auto}"
