"""The only room that knows a database: schema, engine, payload files, and the statements, each with its promise."""
