"""Pairs of images and labels -> a model: dataset, augmentation, loop, checkpoint, package."""
