"""The window: everything that imports qt, ctk or slicer.app; one panel a file. Imported when the module is opened."""
