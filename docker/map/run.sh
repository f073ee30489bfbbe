#!/bin/sh
# Run the MAP as a hospital should: no network, nothing to write to but OUTPUT and /tmp, no privileges.
#   run.sh IMAGE INPUT OUTPUT [ARGUMENTS]
#   RUN_AS  user and group that own OUTPUT (1000:1000)      MEMORY  its limit (4g)
#   OPTIONS more options of docker run or podman run, for instance --gpus=all
set -eu
[ "$#" -ge 3 ] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 2; }
image=$1 input=$2 output=$3
shift 3

if docker info >/dev/null 2>&1; then
    engine=docker
else
    engine="podman --cgroup-manager cgroupfs --runtime runc"
fi
# shellcheck disable=SC2086
exec $engine run --rm --network none --read-only --tmpfs /tmp:rw,mode=1777,size=1g \
    --user "${RUN_AS:-1000:1000}" --cap-drop ALL --security-opt no-new-privileges \
    --memory "${MEMORY:-4g}" --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --ulimit stack=33554432:33554432 \
    --volume "$input:/var/holoscan/input:ro" --volume "$output:/var/holoscan/output" ${OPTIONS:-} "$image" "$@"
