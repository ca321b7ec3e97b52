"""Online tests judged: units of two or more arms, intervals that hold however often one looks, and what they allow to be said."""
