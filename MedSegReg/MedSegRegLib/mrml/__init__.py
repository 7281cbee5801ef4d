"""The bridge to the scene, at both ends of both walks: MRML nodes <-> Image, Labels, Transform.

The only library package that imports ``slicer`` and ``vtk``. It runs the same inside 3D Slicer and on the PyPI
package ``slicer-core`` (real MRML without Qt). Read ``guards``, ``volumes``, ``segmentations``, ``transforms``.
"""
