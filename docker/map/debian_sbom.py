"""Write the Debian packages of the image as a CycloneDX bill of materials.

``python debian_sbom.py PACKAGES SBOM``: PACKAGES has a line ``name<TAB>version<TAB>architecture`` for each,
as ``dpkg-query --show`` writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL


def component(line: str) -> Component:
    """The component of one package."""
    name, version, architecture = line.split("\t")
    url = PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": "debian-12"})
    return Component(type=ComponentType.LIBRARY, name=name, version=version, purl=url, bom_ref=str(url))


def main(arguments: Sequence[str]) -> int:
    """Write the bill."""
    packages, target = map(Path, arguments)
    bom = Bom(components=[component(line) for line in packages.read_text("utf-8").splitlines()])
    make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_to_file(str(target), indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
