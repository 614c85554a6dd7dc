-- The authority's records. One text for SQLite and PostgreSQL: SQLite takes BYTEA and BIGINT as they are.
-- Times are seconds since 1970-01-01T00:00:00Z. Identifiers and serial numbers are lower-case hexadecimal.
-- No temporary key, PIN or private key is ever in here: temporary keys are derived on the token, private keys are wrapped by it.

-- What this database belongs to. One row, written by `authority init` as its last act: without it the database is unfinished.
CREATE TABLE identity (
    only_row       SMALLINT PRIMARY KEY CHECK (only_row = 1),
    authority      BYTEA  NOT NULL, -- SHA-256 of the CA certificate
    token_label    TEXT   NOT NULL,
    token_serial   TEXT   NOT NULL,
    epoch          BIGINT NOT NULL, -- part of every temporary key's derivation
    initialized_at BIGINT NOT NULL
);

CREATE TABLE users (
    id         TEXT   PRIMARY KEY,
    email      TEXT   NOT NULL,
    email_key  TEXT   NOT NULL UNIQUE, -- the address in the form in which two spellings of it are one
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    mac        BYTEA  NOT NULL         -- by the token's record-MAC key
);

CREATE TABLE grants (
    user_id    TEXT   NOT NULL REFERENCES users (id),
    role       TEXT   NOT NULL CHECK (role IN ('administrator')),
    granted_at BIGINT NOT NULL,
    mac        BYTEA  NOT NULL,
    PRIMARY KEY (user_id, role)
);

CREATE TABLE temporary_keys (
    reference      TEXT   PRIMARY KEY,
    number         BIGINT NOT NULL UNIQUE, -- in the order of issuing: a newer one voids a user's unused earlier ones
    user_id        TEXT   NOT NULL REFERENCES users (id),
    purpose        TEXT   NOT NULL CHECK (purpose IN ('enroll', 'recover')),
    nonce          BYTEA  NOT NULL,
    key_id         BYTEA  NOT NULL,        -- which HMAC key of the token
    epoch          BIGINT NOT NULL,
    levels         TEXT   NOT NULL,        -- security levels this letter allows, separated by spaces
    lost           BOOLEAN NOT NULL,       -- recovery of a lost token: a new current encryption key as well
    statement      BYTEA,                  -- SHA-256 of the statement that issued it; none for the first administrator's
    issued_at      BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    state          TEXT   NOT NULL CHECK (state IN ('unused', 'claimed', 'used', 'voided')),
    transaction_id BYTEA,                  -- of the transaction that claimed it
    message_hash   BYTEA,                  -- SHA-256 of the message that claimed it
    mac            BYTEA  NOT NULL
);
CREATE INDEX temporary_keys_user ON temporary_keys (user_id, state);

CREATE TABLE transactions (
    transaction_id     BYTEA  PRIMARY KEY,
    reference          TEXT   NOT NULL REFERENCES temporary_keys (reference),
    user_id            TEXT   NOT NULL REFERENCES users (id),
    message_hash       BYTEA  NOT NULL,
    state              TEXT   NOT NULL CHECK (state IN ('begun', 'answered', 'confirmed', 'rejected', 'unconfirmed')),
    begun_at           BIGINT NOT NULL,
    confirm_until      BIGINT NOT NULL,
    reply              BYTEA, -- the exact bytes, sent again to the same request
    confirmation_hash  BYTEA, -- SHA-256 of the certConf or error that ended it
    confirmation_reply BYTEA
);
CREATE INDEX transactions_state ON transactions (state, confirm_until);

-- Certificates, from the intent (what is about to be signed) on.
CREATE TABLE certificates (
    serial         TEXT   PRIMARY KEY,
    kind           TEXT   NOT NULL CHECK (kind IN ('ca', 'response', 'tls', 'signing', 'encryption')),
    user_id        TEXT   REFERENCES users (id),
    transaction_id BYTEA  REFERENCES transactions (transaction_id),
    state          TEXT   NOT NULL CHECK (state IN ('intended', 'issued', 'current', 'superseded', 'revoked', 'abandoned')),
    keyset_name    TEXT,
    level          TEXT,
    tbs            BYTEA  NOT NULL,
    certificate    BYTEA,
    sha256         BYTEA  UNIQUE,          -- of the certificate
    not_before     BIGINT NOT NULL,
    not_after      BIGINT NOT NULL,
    intended_at    BIGINT NOT NULL,
    confirmed_at   BIGINT,
    ended_at       BIGINT,                 -- superseded, revoked or abandoned
    end_reason     TEXT
);
CREATE INDEX certificates_user ON certificates (user_id, kind, state);
CREATE INDEX certificates_transaction ON certificates (transaction_id);

-- Encryption keys, wrapped by the token's archive key. The HMAC binds every column, so that a record moved to another
-- user, or to another certificate, is noticed before it is unwrapped.
CREATE TABLE key_archive (
    certificate_sha256 BYTEA  PRIMARY KEY REFERENCES certificates (sha256),
    user_id            TEXT   NOT NULL REFERENCES users (id),
    algorithm          TEXT   NOT NULL,
    mechanism          TEXT   NOT NULL,
    wrapped            BYTEA  NOT NULL,
    archived_at        BIGINT NOT NULL,
    mac                BYTEA  NOT NULL
);
CREATE INDEX key_archive_user ON key_archive (user_id);

-- Every statement that was carried out, as received: its own evidence.
CREATE TABLE statements (
    digest        BYTEA  PRIMARY KEY, -- SHA-256 of the signed message
    nonce         BYTEA  NOT NULL UNIQUE,
    administrator TEXT   NOT NULL REFERENCES users (id),
    operation     TEXT   NOT NULL,
    received_at   BIGINT NOT NULL,
    not_after     BIGINT NOT NULL,
    message       BYTEA  NOT NULL
);

-- The log: each row's hash covers the row and the hash before it.
CREATE TABLE audit (
    number        BIGINT PRIMARY KEY,
    at            BIGINT NOT NULL,
    event         TEXT   NOT NULL,
    detail        TEXT   NOT NULL, -- JSON
    previous_hash BYTEA  NOT NULL,
    hash          BYTEA  NOT NULL
);
