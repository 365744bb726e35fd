"""The notebook: extension, magics, live displays, short errors. IPython is let in here and nowhere else."""
