#!/bin/sh
# Build the MAP image, with docker where its daemon runs, else with buildah.
#   IMAGE   its name                      (localhost/fracture-map:VERSION)
#   TORCH   cuda, or cpu for a third of the size   (cuda)
#   BASE    the image of Debian 12 to start from   (debian:12-slim)
set -eu
cd "$(dirname "$0")/../.."

python=${PYTHON:-.venv/bin/python}
torch=${TORCH:-cuda}
version=$("$python" -c 'import cspine; print(cspine.__version__)')
image=${IMAGE:-localhost/fracture-map:$version}
context=build/map
case "$torch" in
    cuda) lock=requirements.lock ;;
    cpu) lock=requirements-cpu.lock ;;
    *) echo "TORCH is '$torch'; make it cuda or cpu." >&2; exit 2 ;;
esac

rm -rf "$context/documents" "$context"/wheels/fracture_map-*.whl "$context"/*.lock
mkdir -p "$context/wheels" "$context/documents"
# Wheels that are there already, with the right hash, are not fetched again.
for file in "$lock" tools.lock; do
    "$python" -m pip download --quiet --only-binary=:all: --no-deps --require-hashes \
        --find-links "$context/wheels" --dest "$context/wheels" -r "docker/map/$file"
    cp "docker/map/$file" "$context/"
done
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$context/wheels" .
cp docker/map/tools docker/map/debian_sbom.py "$context/"
cp -R README.md LICENSE CHANGELOG.md docs "$context/documents/"

set -- --build-arg "VERSION=$version" --build-arg "LOCK=$lock" --build-arg "BASE=${BASE:-debian:12-slim}" \
    --file docker/map/Dockerfile --tag "$image"
if docker info >/dev/null 2>&1; then
    docker build "$@" "$context"
else
    buildah bud --isolation chroot --layers=false "$@" "$context"
fi
echo "$image" > "$context/image"  # for `make map-test`
echo "$image"
