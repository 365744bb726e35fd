"""The embedded server and the local workers beside it: one stack for each project directory and interpreter."""
