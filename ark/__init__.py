"""Ark: ask, retrieve, tell. The actions, their text form and the readers of old files, each defined once."""
