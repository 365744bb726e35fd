"""How a flow and a run look: layout, SVG, HTML and plain text, made from the model alone. Knows no server and no notebook."""
