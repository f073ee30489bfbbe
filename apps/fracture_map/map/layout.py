"""Where things are in the image of a MAP, once; paths as a process in the container sees them."""

from __future__ import annotations

from typing import Final

from cspine.settings import PRODUCT

TITLE: Final = PRODUCT

APP_JSON: Final = "/etc/holoscan/app.json"
PKG_JSON: Final = "/etc/holoscan/pkg.json"
APP_ROOT: Final = "/opt/holoscan/app/"
MODEL_ROOT: Final = "/opt/holoscan/models/"
DOCS: Final = "/opt/holoscan/docs/"
WORK_DIR: Final = "/var/holoscan/"
INPUT: Final = "/var/holoscan/input/"
OUTPUT: Final = "/var/holoscan/output/"
LOGS: Final = "/var/holoscan/logs/"
CONFIG: Final = "/var/holoscan/app.yaml"
ENTRY: Final = "/var/holoscan/tools"
"""The entry script, where the packager of MONAI Deploy has it too."""
EXPORT: Final = "/var/run/holoscan/export"
"""Where ``extract`` copies to."""
VENV: Final = "/opt/venv"

COMMAND: Final = "python3 -m fracture_map"
"""What the entry script runs, and app.json names."""

ENVIRONMENT: Final = {
    "HOLOSCAN_INPUT_PATH": INPUT,
    "HOLOSCAN_OUTPUT_PATH": OUTPUT,
    "HOLOSCAN_WORKDIR": WORK_DIR,
    "HOLOSCAN_MODEL_PATH": MODEL_ROOT,
    "HOLOSCAN_CONFIG_PATH": CONFIG,
    "HOLOSCAN_APP_MANIFEST_PATH": APP_JSON,
    "HOLOSCAN_PKG_MANIFEST_PATH": PKG_JSON,
    "HOLOSCAN_DOCS": DOCS,
    "HOLOSCAN_LOGS": LOGS,
}
"""The variables that the specification names; app.json and the image set the same values."""

LABEL_TITLE: Final = "org.opencontainers.image.title"
LABEL_VERSION: Final = "org.opencontainers.image.version"

SBOM: Final = f"{DOCS}sbom/python.cdx.json"
DEBIAN_SBOM: Final = f"{DOCS}sbom/debian.cdx.json"
THIRD_PARTY: Final = f"{DOCS}licenses/third-party.txt"
