--! swept: these artifacts were looked after in the artifact store; one that was left again meanwhile stays in the dust
--! uses: event
--! keys:
--! args: *pairs_
--! reply: how many are done
-- pairs_: digest run, as the sweeper found them
local done = 0
for i = 1, #pairs_, 2 do
  if call('HGET', P..':dust', pairs_[i]) == pairs_[i + 1] then done = done + call('HDEL', P..':dust', pairs_[i]) end
end
return done
