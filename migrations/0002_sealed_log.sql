-- Each entry of the log carries a MAC by the token's record-MAC key over the whole row: SHA-256 alone can be computed by
-- whoever writes to the database. NULL only in entries that older versions wrote, and only until the first start.
ALTER TABLE audit ADD COLUMN mac BYTEA;
