//! Argo CD's health script, run as Argo CD runs it: Lua 5.1 with the base and table functions, `obj` as the one global, an answer
//! with `status` and `message` (argo-cd, util/lua/lua.go).

use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, StdLib, Table, serde::SerializeOptions};
use serde_json::Value;

pub struct Script {
    lua: Lua,
    function: Function,
}

impl Script {
    pub fn new(text: &str) -> Self {
        let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).expect("an interpreter");
        let function = lua.load(text).into_function().expect("health.lua is Lua 5.1");
        Self { lua, function }
    }

    /// Health and message.
    pub fn judge(&self, object: &Value) -> (String, String) {
        self.run(object).map_err(|error| format!("{error}\n{object:#}")).expect("an answer")
    }

    fn run(&self, object: &Value) -> mlua::Result<(String, String)> {
        // Argo CD hands over a null as nothing.
        let options = SerializeOptions::new()
            .set_array_metatable(false)
            .serialize_none_to_null(false)
            .serialize_unit_to_null(false);
        self.lua.globals().set("obj", self.lua.to_value_with(object, options)?)?;
        let health: Table = self.function.call(())?;
        Ok((health.get("status")?, health.get("message")?))
    }
}
