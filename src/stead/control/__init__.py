"""Control laws: pure functions that say where a governed value goes next. See `stead.flow.govern` for who moves it."""
