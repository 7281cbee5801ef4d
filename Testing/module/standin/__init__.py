"""Slicer's window without Slicer: ``qt``, ``ctk`` and the ``slicer.*`` names of scripted modules, over PySide6.

Read in this order: ``names`` (what a running Slicer offers), ``pythonqt`` (how its Python shows Qt), ``ctk_widgets``,
``node_selectors`` and ``mrml_widgets`` (its own controls), ``ui_files``, ``parameter_node`` with ``parameter_stores``
and ``connectors``, ``scripted_modules``, ``application``, ``desktop``, ``event_loop``. Only tests import it.
"""
