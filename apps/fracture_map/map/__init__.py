"""The MONAI Application Package (MAP): what its image holds, how that is made, and how it is checked.

`layout` says where things are, `manifests` makes app.json and pkg.json, `assemble` lays the tree of an image,
`image` reads one back and `checklist` holds it against the specification, version 1.0.
"""
