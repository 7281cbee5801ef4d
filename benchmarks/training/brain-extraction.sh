#!/bin/sh
# brain-extraction from label maps: aligned with the template and with the brain's mask in them, then trained at 3 mm with the
# parts of the brain as labels, which are merged at the end. The same command goes on where it was stopped.
#
#   sh benchmarks/training/brain-extraction.sh MAPS OUTPUT [MINUTES] [DEVICE]
set -e
here=$(dirname "$0")
export PYTHONPATH="$here/../../MedSegReg${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
[ -d "$2/maps" ] || "$python" "$here/align_label_maps.py" "$1" "$2/maps" --mask
"$python" -m MedSegRegLib train "$2/maps" --settings "$here/brain-extraction.json" --output "$2/parts" \
    --stop-after "${3:-600}" --device "${4:-auto}"
[ ! -d "$2/parts/model" ] || "$python" "$here/merge_labels.py" "$2/parts" "$2/maps" "$2/model"
