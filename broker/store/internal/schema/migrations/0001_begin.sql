-- SPDX-License-Identifier: Apache-2.0
-- SPDX-FileCopyrightText: The jurat authors
--
-- Times are milliseconds since 1970, truth is 0 or 1, digests are 32 bytes.

CREATE TABLE once (
    space   TEXT   NOT NULL,
    key     BLOB   NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE INDEX once_expires ON once (expires);

CREATE TABLE invitation (
    token   BLOB   NOT NULL PRIMARY KEY,
    name    TEXT   NOT NULL UNIQUE,
    id      TEXT   NOT NULL,
    machine TEXT   NOT NULL,
    ek_pin  BLOB   NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE enrolment (
    id        TEXT   NOT NULL PRIMARY KEY,
    token     BLOB   NOT NULL UNIQUE,
    secret    BLOB   NOT NULL,
    ueid      BLOB   NOT NULL,
    ek        BLOB   NOT NULL,
    ak_public BLOB   NOT NULL,
    ak_name   BLOB   NOT NULL,
    level     TEXT   NOT NULL,
    expires   BIGINT NOT NULL
);

CREATE TABLE host (
    name      TEXT   NOT NULL PRIMARY KEY,
    id        TEXT   NOT NULL UNIQUE,
    ueid      BLOB   NOT NULL UNIQUE,
    ek        BLOB   NOT NULL UNIQUE,
    ak_public BLOB   NOT NULL,
    ak_name   BLOB   NOT NULL UNIQUE,
    level     TEXT   NOT NULL,
    machine   TEXT   NOT NULL,
    enrolled  BIGINT NOT NULL,
    seen      BIGINT NOT NULL,
    epoch     BIGINT NOT NULL,
    sequence  BIGINT NOT NULL,
    size      BIGINT NOT NULL,
    root      BLOB   NOT NULL,
    state     BLOB   NOT NULL
);

CREATE TABLE document (
    kind    TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    body    BLOB   NOT NULL,
    digest  BLOB   NOT NULL,
    updated BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- The salt keys the person's pseudonym in the log. It is deleted with the row.
CREATE TABLE approver (
    issuer  TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    salt    BLOB   NOT NULL,
    added   BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE approver_key (
    fingerprint TEXT   NOT NULL PRIMARY KEY,
    issuer      TEXT   NOT NULL,
    subject     TEXT   NOT NULL,
    key         BLOB   NOT NULL,
    added       BIGINT NOT NULL,
    removed     BIGINT NOT NULL,
    FOREIGN KEY (issuer, subject) REFERENCES approver (issuer, subject)
);
CREATE INDEX approver_key_person ON approver_key (issuer, subject);

CREATE TABLE resource (
    id       TEXT   NOT NULL PRIMARY KEY,
    audience TEXT   NOT NULL,
    secret   BLOB   NOT NULL,
    updated  BIGINT NOT NULL
);

CREATE TABLE delegation (
    id           TEXT   NOT NULL PRIMARY KEY,
    d            BLOB   NOT NULL UNIQUE,
    object       BLOB   NOT NULL,
    workload     TEXT   NOT NULL,
    issuer       TEXT   NOT NULL,
    subject      TEXT   NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('requested', 'approved', 'refused', 'revoked', 'expired', 'used')),
    per_instance BIGINT NOT NULL CHECK (per_instance IN (0, 1)),
    uses_left    BIGINT NOT NULL CHECK (uses_left >= 0),
    not_before   BIGINT NOT NULL,
    expires      BIGINT NOT NULL,
    requested    BIGINT NOT NULL,
    updated      BIGINT NOT NULL
);
CREATE INDEX delegation_person ON delegation (issuer, subject, state);
CREATE INDEX delegation_expires ON delegation (state, expires);
CREATE INDEX delegation_requested ON delegation (requested);

CREATE TABLE delegation_use (
    delegation TEXT   NOT NULL REFERENCES delegation (id),
    instance   TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (delegation, instance)
);

CREATE TABLE answer (
    d         BLOB   NOT NULL REFERENCES delegation (d),
    act       TEXT   NOT NULL,
    issuer    TEXT   NOT NULL,
    subject   TEXT   NOT NULL,
    method    TEXT   NOT NULL,
    statement BLOB   NOT NULL,
    signature BLOB   NOT NULL,
    key       BLOB   NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (d, act, issuer, subject)
);

CREATE TABLE evidence (
    ref       BLOB   NOT NULL PRIMARY KEY,
    txn       TEXT   NOT NULL,
    request   BIGINT NOT NULL,
    host      TEXT   NOT NULL,
    d         BLOB   NOT NULL,
    appraisal BLOB   NOT NULL,
    expires   BIGINT NOT NULL
);
CREATE INDEX evidence_host ON evidence (host);
CREATE INDEX evidence_expires ON evidence (expires);

CREATE TABLE token (
    jti        BLOB   NOT NULL PRIMARY KEY,
    txn        TEXT   NOT NULL,
    delegation TEXT   NOT NULL,
    workload   TEXT   NOT NULL,
    host       TEXT   NOT NULL,
    instance   TEXT   NOT NULL,
    audience   TEXT   NOT NULL,
    thumbprint BLOB   NOT NULL,
    issued     BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    revoked    BIGINT NOT NULL
);
CREATE INDEX token_delegation ON token (delegation);
CREATE INDEX token_host ON token (host, instance);
CREATE INDEX token_expires ON token (expires);

CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);

-- The broker's log: entries, the RFC 6962 hashes in the order of
-- tlog.StoredHashIndex, and the one signed head.
CREATE TABLE log_leaf (
    idx   INTEGER NOT NULL PRIMARY KEY,
    txn   TEXT   NOT NULL,
    entry BLOB   NOT NULL
);
CREATE INDEX log_leaf_txn ON log_leaf (txn);

CREATE TABLE explanation (
    idx  INTEGER NOT NULL PRIMARY KEY REFERENCES log_leaf (idx),
    txn  TEXT   NOT NULL,
    body BLOB   NOT NULL
);
CREATE INDEX explanation_txn ON explanation (txn);

CREATE TABLE log_hash (
    idx  INTEGER NOT NULL PRIMARY KEY,
    hash BLOB   NOT NULL
);

CREATE TABLE log_head (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    size       BIGINT NOT NULL,
    root       BLOB   NOT NULL,
    checkpoint BLOB   NOT NULL
);
