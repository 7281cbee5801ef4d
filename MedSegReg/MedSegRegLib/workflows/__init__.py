"""What needs segmentation and registration together."""
