"""Fixed and moving image to a transform and its inverse: pyramid, starts, affine, deformable; ``run`` joins them."""
