#!/bin/sh
# Installs what some tests talk to: DICOM validators, Orthanc, PostgreSQL, poppler, Chromium. Debian, as root; elsewhere it
# only says what is missing, and the tests that need it are skipped by name (or fail, with CSPINE_REQUIRE_SERVICES=1).
set -eu

missing=
for package in dicom3tools dcmtk libpixelmed-java default-jre-headless orthanc orthanc-dicomweb poppler-utils \
    postgresql chromium; do
    dpkg-query --show --showformat='${Status}\n' "$package" 2>/dev/null | grep -q 'install ok installed' \
        || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update --quiet=2
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $missing
else
    echo "not installed, so some tests will be skipped:$missing" >&2
fi
