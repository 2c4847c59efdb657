-- SPDX-License-Identifier: Apache-2.0
-- SPDX-FileCopyrightText: The jurat authors

-- Who made the TPM, as its certificate says; empty: not known.
ALTER TABLE enrolment ADD COLUMN maker TEXT NOT NULL DEFAULT '';
ALTER TABLE host ADD COLUMN maker TEXT NOT NULL DEFAULT '';

-- Boot event logs by digest. Hosts that booted alike have one between them; the
-- last to leave it takes it along. A host without one has 32 zero bytes.
CREATE TABLE boot_log (
    digest BLOB NOT NULL PRIMARY KEY,
    log    BLOB NOT NULL
);
ALTER TABLE host ADD COLUMN boot_log BLOB NOT NULL DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
CREATE INDEX host_boot_log ON host (boot_log);

-- Digests of the files in a host's IMA list, 32 bytes each, in pieces.
CREATE TABLE ima_files (
    host   TEXT   NOT NULL,
    number BIGINT NOT NULL,
    files  BLOB   NOT NULL,
    PRIMARY KEY (host, number)
);

-- The host's epoch in which the evidence for the token was made.
ALTER TABLE token ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
