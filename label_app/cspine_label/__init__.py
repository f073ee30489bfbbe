"""The MONAI Label app: annotators teach the segmentation, from OHIF and 3D Slicer.

Everything that decides stands in modules that know neither MONAI Label nor HTTP; `routes` and `tasks` are
thin doors to them.
"""
