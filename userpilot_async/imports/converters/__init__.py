"""Other tools' exports as import rows: a module a tool, each a function from one line to the rows that it makes.

A converter gets one JSON object of an export and gives unchecked rows, none where the line says nothing of a user or a
company; `imports.checked` refuses what is wrong with them, and a line is taken whole or refused whole. Profiles are
carried forward behind it, so that a converter needs no earlier row. `_convert` has the table of names (`CONVERTERS`),
`_common` what all exports share. A tool's own format is documented, with its source and the day it was read, in its
module.
"""
