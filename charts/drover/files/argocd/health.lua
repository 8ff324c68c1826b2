-- The health of Drover's resources, for Argo CD, which does not look at kstatus' conditions by itself. Every kind of the group says
-- Ready, Reconciling, Stalled and Suspended in the same sense. `obj` is the resource. Only Stalled is Degraded: Argo CD gives up a sync
-- over a Degraded resource, and whatever mends itself must not end one. A lost primary does not mend itself: such a set is Stalled.
--
-- Argo CD runs this with Lua's base and table functions only, for a second at most. A script that fails makes the application's health
-- unknown, so whatever is missing or misshapen is read as not being there.

local function part(value, name)
  if type(value) == "table" then
    return value[name]
  end
  return nil
end

local function text(value, otherwise)
  if type(value) == "string" and value ~= "" then
    return value
  end
  return otherwise
end

local status = part(obj, "status")
local metadata = part(obj, "metadata")

-- The condition of that type, whatever its status.
local function condition(kind)
  local conditions = part(status, "conditions")
  if type(conditions) == "table" then
    for _, one in ipairs(conditions) do
      if part(one, "type") == kind then
        return one
      end
    end
  end
  return nil
end

local function is_true(kind)
  return part(condition(kind), "status") == "True"
end

-- What it says, or what another condition says, or else that.
local function message(kind, otherwise)
  return text(part(condition(kind), "message"), otherwise)
end

local function health(state, why)
  return { status = state, message = why }
end

if part(metadata, "deletionTimestamp") ~= nil then
  return health("Progressing", message("Reconciling", "it is being deleted"))
end

local generation = part(metadata, "generation")
local observed = part(status, "observedGeneration")
if observed == nil or (generation ~= nil and generation ~= observed) then
  return health("Progressing", "the operator has not looked at it yet")
end

if is_true("Stalled") then
  return health("Degraded", message("Stalled", "it waits for a person"))
end

-- Held or paused: nothing is under way, and nothing is wrong.
if is_true("Suspended") then
  return health("Suspended", message("Suspended", "nothing is changed"))
end

if is_true("Reconciling") then
  return health("Progressing", message("Reconciling", "work goes on"))
end

if is_true("Ready") then
  return health("Healthy", message("Ready", "ready"))
end

return health("Progressing", message("Ready", "it is not known yet how it is"))
