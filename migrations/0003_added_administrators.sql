-- From when a role counts, if that is later than it was granted: an administrator who was added with the authority's PIN
-- while there are others counts after a day. The role's MAC is over this too.
CREATE TABLE grants_to_come (
    user_id     TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    counts_from BIGINT NOT NULL,
    PRIMARY KEY (user_id, role)
);
