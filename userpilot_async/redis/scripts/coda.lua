-- Every script ends with this: its answer, behind the number of the question. An answer too many, or one that comes late,
-- would otherwise be taken for the next one's.
local said = answer()
if type(said) == 'table' and said.err then
  return said
end
return {asked, said}
