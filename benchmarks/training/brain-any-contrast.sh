#!/bin/sh
# brain-any-contrast from label maps: aligned with the template, a first training at 4 mm, then the one at 2 mm that goes on from it.
# Stops after MINUTES of the training at 2 mm, and the same command goes on from there.
#
#   sh benchmarks/training/brain-any-contrast.sh MAPS OUTPUT [MINUTES] [DEVICE]
set -e
here=$(dirname "$0")
export PYTHONPATH="$here/../../MedSegReg${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
[ -d "$2/maps" ] || "$python" "$here/align_label_maps.py" "$1" "$2/maps"
"$python" -m MedSegRegLib train "$2/maps" --settings "$here/brain-any-contrast-4mm.json" --output "$2/4mm" --device "${4:-auto}"
"$python" -m MedSegRegLib train "$2/maps" --settings "$here/brain-any-contrast.json" --from "$2/4mm/model" --output "$2/2mm" \
    --stop-after "${3:-600}" --device "${4:-auto}"
