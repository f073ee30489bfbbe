"""OHIF for annotators: the viewer's static build, our panel in it, and the way to the PACS behind it.

::

    app.router.routes[0:0] = ohif_routes(OhifSite(dicomweb_url="http://pacs/dicom-web"))
"""

from cspine_label.ohif.routes import ohif_routes
from cspine_label.ohif.site import OhifSite

__all__ = ["OhifSite", "ohif_routes"]
