// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The jurat authors

// Package broker decides and issues (stations 9 and 10 of the flow): it asks
// hosts for evidence, has package verify judge it, holds it against what
// operators registered and what a human signed, and gives out one credential
// for one task.
//
// Its doors are the handlers [Broker.Public] and [Broker.Operator], which
// somebody else listens for, and the store. What comes in is a bundle, an
// OAuth request or an operator's word; what goes out is a token with its
// receipt, or a refusal that says which attestor said no.
//
// The order is fixed, and everything fails closed:
//
//	size, known host, challenge (ours, this host's, in time, once), verify.Bundle,
//	appraisal per request, one-time reference            POST /v1/evidence
//	reference (once), key, task, appraisal, approval verified again from the
//	signed bytes, state and uses; with the log entry in one transaction;
//	then the signature                                    POST /oauth/token
//
// It refuses to issue what it cannot log, to believe a delegation because a
// row says so, and to tell a workload what would have passed. It makes no
// network connection. Formats are in spec/broker-api.md.
package broker
