"""Tables: reading a source, giving it types, the schema it must keep, and what it may leak."""
