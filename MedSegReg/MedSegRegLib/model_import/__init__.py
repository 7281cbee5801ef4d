"""Models of other tools become model packages; nothing of a foreign file is ever executed. Read ``run`` first."""
